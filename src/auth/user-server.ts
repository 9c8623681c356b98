/** Users of a table in MariaDB or MySQL, that of the queue; one connection, opened when it is needed and again when it broke. */
import type { Connection } from 'mariadb';
import type { Account } from './user-file.ts';
import { accountOfRow, DEFAULT_QUERY } from './user-table.ts';

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
    const rows = await this.#ask(username);
    return accountOfRow(rows[0]);
  }

  /** A connection that was open may have been closed since by the server: then a new one is tried. */
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
