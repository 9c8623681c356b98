/**
 * The suppression list in the file of a queue that is another process's, or of a stopped relay: with SQLite's own locks between
 * the two.
 */
import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { RelayError } from '../../base/errors.ts';
import type { SuppressionAnswer, SuppressionAsk } from '../../mail/suppression.ts';
import type { SuppressionNotes } from '../database.ts';
import { sqliteError } from './errors.ts';
import { SqliteSuppressions } from './suppressions.ts';

const BUSY_TIMEOUT_MS = 5000;
const CACHE_KIB = 65_536;

export class SuppressionFile {
  readonly #path: string;
  readonly #notes: SuppressionNotes | null;
  #db: DatabaseSync | null = null;
  #list: SqliteSuppressions | null = null;

  constructor(path: string, notes: SuppressionNotes | null) {
    this.#path = path;
    this.#notes = notes;
  }

  /** @throws RelayError when the file cannot be used. */
  answer(ask: SuppressionAsk): SuppressionAnswer {
    try {
      return this.#open().answer(ask);
    } catch (error) {
      throw error instanceof RelayError ? error : sqliteError(error, this.#path);
    }
  }

  #open(): SqliteSuppressions {
    if (this.#list !== null) return this.#list;
    if (!existsSync(this.#path))
      throw new RelayError('database_unavailable', `there is no queue ${this.#path}: start the relay once`);
    const db = new DatabaseSync(this.#path, { timeout: BUSY_TIMEOUT_MS });
    try {
      db.exec(`PRAGMA synchronous = FULL; PRAGMA cache_size = -${CACHE_KIB}; PRAGMA temp_store = MEMORY;`);
      const table = db
        .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'suppressions'")
        .get();
      if (table === undefined)
        throw new RelayError(
          'schema_unknown',
          `database ${this.#path} has an older schema: start the relay once to upgrade it`,
        );
      this.#list = new SqliteSuppressions(db, this.#notes);
      this.#db = db;
      return this.#list;
    } catch (error) {
      db.close();
      throw error;
    }
  }

  close(): void {
    this.#list = null;
    this.#db?.close();
    this.#db = null;
  }
}
