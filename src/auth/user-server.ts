/** Users of a table on the queue's MariaDB or MySQL. One connection, opened when needed and again when it broke. */
import type { Connection } from 'mariadb';
import type { Config, ServerConfig } from '../config/schema.ts';
import type { Account } from './user-file.ts';
import { accountOfRow, DEFAULT_QUERY } from './user-table.ts';

/** Makes every statement a transaction of its own: one left open would keep operators from changing the table. */
export const USERS_SESSION = "SET SESSION sql_mode = 'STRICT_ALL_TABLES', autocommit = 1";

/** The server whose table `users` a database backend without a path means: the queue's, or the first of several. */
export function usersServer(database: Config['database']): ServerConfig | null {
  if (database.driver === 'mysql') return database;
  return database.driver === 'mysql_distributed' ? (database.shards[0] ?? null) : null;
}

/**
 * The secret in the database of the queue; where there is none yet, ours becomes it. Reads before it writes, because a
 * replica that can only be read has the secret as well.
 */
export async function agreeOnSecret(connection: Pick<Connection, 'query'>, ours: string): Promise<string> {
  const sql = "SELECT value FROM relay_state WHERE name = 'auth_secret'";
  const read = async (): Promise<string | undefined> =>
    (await connection.query<{ value: string }[]>(sql))[0]?.value;
  const found = await read();
  if (found !== undefined) return found;
  await connection.query("INSERT IGNORE INTO relay_state (name, value) VALUES ('auth_secret', ?)", [ours]);
  return (await read()) ?? ours;
}

export class UserServer {
  readonly #connect: () => Promise<Connection>;
  readonly #query: string;
  #connection: Connection | null = null;

  constructor(connect: () => Promise<Connection>, query: string = DEFAULT_QUERY) {
    this.#connect = connect;
    this.#query = query;
  }

  /** @throws Error when the server cannot be asked, or what is found cannot be used. */
  async find(username: string): Promise<Account | null> {
    const [row] = await this.#ask(username);
    // Collations take 'bob ' for 'bob', and some take 'Bob' too; quotas and rules go by the exact name.
    if (row !== undefined && typeof row.username === 'string' && row.username !== username) return null;
    return accountOfRow(row);
  }

  /** The server may have closed a connection that was open: then a new one is tried. */
  async #ask(username: string): Promise<Record<string, unknown>[]> {
    const wasOpen = this.#connection !== null;
    try {
      this.#connection ??= await this.#connect();
      return await this.#connection.query(this.#query, [username]);
    } catch (error) {
      this.#connection?.destroy();
      this.#connection = null;
      if (!wasOpen) throw error;
      return this.#ask(username);
    }
  }
}
