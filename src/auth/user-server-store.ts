/** The table of users where the queue is, in MariaDB or MySQL, as `protorelay user` changes it. `protorelay db migrate` makes it. */
import type { Connection } from 'mariadb';
import { schemeOf } from './hashes.ts';
import type { ListedUser, UserStore } from './user-store.ts';
import { RULES, type UserRow } from './user-table.ts';

const DUPLICATE = 1062;
/** By the index, and then to the octet: collations take 'bob ' for 'bob'. */
const NAMED = 'username = ? AND BINARY username = ?';

export interface UserServerAccess {
  /** 'mysql relay@db.example.net:3306/relay', for the operator. */
  name: string;
  /** With every statement a transaction of its own. */
  connect(): Promise<Connection>;
  /** What an operator reads of what the server, or the way to it, says. */
  explain(error: unknown): Error;
}

export class ServerStore implements UserStore {
  readonly path: string;
  readonly #access: UserServerAccess;
  #connection: Connection | null = null;

  /** Connects when it is first used: whoever types a password may take his time. */
  constructor(access: UserServerAccess) {
    this.path = access.name;
    this.#access = access;
  }

  async list(): Promise<ListedUser[]> {
    const rows = await this.#ask<UserRow[]>(`SELECT username, hash, ${RULES} FROM users ORDER BY username`);
    return rows.map(({ username, hash, ...columns }) => ({
      username,
      scheme: schemeOf(hash) ?? '',
      rules: Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== null)),
    }));
  }

  async add(username: string, hash: string, rules: Record<string, string>): Promise<boolean> {
    const names = ['username', 'hash', ...Object.keys(rules)];
    const sql = `INSERT INTO users (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`;
    return (await this.#change(sql, username, hash, ...Object.values(rules))) === 1;
  }

  async setHash(username: string, hash: string): Promise<boolean> {
    return (await this.#change(`UPDATE users SET hash = ? WHERE ${NAMED}`, hash, username, username)) === 1;
  }

  async remove(username: string): Promise<boolean> {
    return (await this.#change(`DELETE FROM users WHERE ${NAMED}`, username, username)) === 1;
  }

  /** Rows changed; 0 where there is one with that name already. */
  async #change(sql: string, ...values: string[]): Promise<number> {
    const { affectedRows } = await this.#ask<{ affectedRows: number }>(sql, values);
    return affectedRows;
  }

  async #ask<T>(sql: string, values: string[] = []): Promise<T> {
    try {
      this.#connection ??= await this.#access.connect();
      return await this.#connection.query(sql, values);
    } catch (error) {
      if ((error as { errno?: number }).errno === DUPLICATE) return { affectedRows: 0 } as T;
      throw this.#access.explain(error);
    }
  }

  async close(): Promise<void> {
    await this.#connection?.end().catch(() => this.#connection?.destroy());
  }
}
