/** The table of users in SQLite: what `protorelay user` writes and the database backend reads. */
import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { giveToOwner, makeFolderOf } from '../base/changed-file.ts';
import { makePrivateFile } from '../base/private-file.ts';
import { isHash } from './hashes.ts';
import { readRules } from './rules.ts';
import type { Account } from './user-file.ts';

export const USERS_TABLE = `CREATE TABLE IF NOT EXISTS users (
  username TEXT PRIMARY KEY,
  hash TEXT NOT NULL,
  sender_policy TEXT,
  senders TEXT,
  messages_per_hour INTEGER,
  messages_per_day INTEGER,
  recipients_per_hour INTEGER,
  recipients_per_day INTEGER
) WITHOUT ROWID, STRICT`;

/** So many rows say which kinds of hashes there are. */
export const SAMPLE_QUERY = 'SELECT hash FROM users LIMIT 1000';
export const DEFAULT_QUERY = 'SELECT * FROM users WHERE username = ?';
export const RULES =
  'sender_policy, senders, messages_per_hour, messages_per_day, recipients_per_hour, recipients_per_day';

/** Reads accounts; for a thread that may wait for the disk. */
export class UserTable {
  readonly #database: DatabaseSync;
  readonly #query: ReturnType<DatabaseSync['prepare']>;

  /** @throws Error when there is no such file, or the query does not fit it. */
  constructor(path: string, query: string = DEFAULT_QUERY, timeoutMs = 1000) {
    this.#database = new DatabaseSync(path, { readOnly: true, timeout: timeoutMs });
    try {
      this.#query = this.#database.prepare(query);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** @throws Error also when what is found cannot be used. */
  find(username: string): Account | null {
    return accountOfRow(this.#query.get(username) as Record<string, unknown> | undefined);
  }

  close(): void {
    this.#database.close();
  }
}

/** @throws Error when the row has no hash that we can verify, or rules that we cannot read. */
export function accountOfRow(row: Record<string, unknown> | undefined): Account | null {
  if (row === undefined) return null;
  const { hash } = row;
  if (typeof hash !== 'string' || !isHash(hash))
    throw new Error('the query has no column "hash" with a hash we can verify');
  const rules = readRules(row, false);
  if (typeof rules === 'string') throw new Error(`the table of users: ${rules}`);
  return { hash, rules };
}

/** Opens the table for changes, making it when it is missing. */
export function openUserTable(path: string): DatabaseSync {
  const isNew = !existsSync(path);
  makeFolderOf(path);
  makePrivateFile(path);
  const database = new DatabaseSync(path, { timeout: 5000 });
  database.exec(USERS_TABLE);
  if (isNew) {
    giveToOwner(path, path);
  }
  return database;
}

export interface UserRow {
  username: string;
  hash: string;
  [rule: string]: unknown;
}

export function listRows(database: DatabaseSync): UserRow[] {
  return database.prepare(`SELECT username, hash, ${RULES} FROM users ORDER BY username`).all() as UserRow[];
}
