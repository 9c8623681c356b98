/** The table of users on the queue's MariaDB or MySQL, as `protorelay user` changes it; `protorelay db migrate` makes it. */
import type { Connection } from 'mariadb';
import { schemeOf } from './hashes.ts';
import type { ListedUser, UserStore } from './user-store.ts';
import { RULES, type UserRow } from './user-table.ts';

const ER_DUP_ENTRY = 1062;
/** The first comparison uses the index, the second one is exact: collations take 'bob ' for 'bob'. */
const HAS_NAME = 'username = ? AND BINARY username = ?';

export interface UserServerAccess {
  /** 'mysql relay@db.example.net:3306/relay', for the operator. */
  name: string;
  /** Connects so that every statement is a transaction of its own. */
  connect(): Promise<Connection>;
  /** An error of the server, or of the way to it, in words for the operator. */
  explain(error: unknown): Error;
}

export class ServerStore implements UserStore {
  readonly path: string;
  readonly #access: UserServerAccess;
  #connection: Connection | null = null;

  /** Connects at the first use, since an operator may take his time to type a password. */
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
    return (
      (await this.#change(`UPDATE users SET hash = ? WHERE ${HAS_NAME}`, hash, username, username)) === 1
    );
  }

  async remove(username: string): Promise<boolean> {
    return (await this.#change(`DELETE FROM users WHERE ${HAS_NAME}`, username, username)) === 1;
  }

  /** Rows changed; 0 when there is a user of that name already. */
  async #change(sql: string, ...values: string[]): Promise<number> {
    const { affectedRows } = await this.#ask<{ affectedRows: number }>(sql, values);
    return affectedRows;
  }

  async #ask<T>(sql: string, values: string[] = []): Promise<T> {
    try {
      this.#connection ??= await this.#access.connect();
      return await this.#connection.query(sql, values);
    } catch (error) {
      if ((error as { errno?: number }).errno === ER_DUP_ENTRY) return { affectedRows: 0 } as T;
      throw this.#access.explain(error);
    }
  }

  async close(): Promise<void> {
    await this.#connection?.end().catch(() => this.#connection?.destroy());
  }
}
