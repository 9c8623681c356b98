/**
 * Gives free space of a queue's file back to the disk. SQLite uses free pages again, but keeps them; VACUUM writes what is
 * in use anew, during which nothing else is written (docs/decisions/queue-file.md).
 */
import { DatabaseSync } from 'node:sqlite';
import type { QueueFile } from '../../mail/queue-stats.ts';
import { sqliteError } from './errors.ts';

const MIB = 1_048_576;
/** So much is copied while mail waits: some 100 ms. */
const QUICK_BYTES = 16 * MIB;
/** Less is not worth it: the next mail will use it. */
const WORTH_BYTES = 64 * MIB;

function measured(db: DatabaseSync): QueueFile {
  const of = (pragma: string): number =>
    Object.values(db.prepare(`PRAGMA ${pragma}`).get() ?? {})[0] as number;
  const pageBytes = of('page_size');
  return { bytes: of('page_count') * pageBytes, freeBytes: of('freelist_count') * pageBytes };
}

export class Compactor {
  readonly #db: DatabaseSync;
  /** As it was measured last: often enough for people and for pressure. */
  file: QueueFile;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.file = measured(db);
  }

  checkpoint(): void {
    this.#db.exec('PRAGMA wal_checkpoint(PASSIVE)');
    this.file = measured(this.#db);
  }

  /**
   * Gives free space back when most of the file is free and little is left; otherwise mail would wait for as long as it
   * takes to copy what is left. @returns whether it did.
   */
  compact(): boolean {
    this.file = measured(this.#db);
    const { bytes, freeBytes } = this.file;
    if (freeBytes < WORTH_BYTES || bytes - freeBytes > QUICK_BYTES) return false;
    this.#db.exec('VACUUM');
    this.checkpoint();
    return true;
  }
}

/**
 * Of a relay that does not run: however much is in use. Needs as much free space on the disk meanwhile. Nothing is lost
 * when it is interrupted.
 * @throws RelayError when the file cannot be written, or the disk is full.
 */
export function compactFile(path: string): { before: QueueFile; after: QueueFile } {
  let db: DatabaseSync | null = null;
  try {
    db = new DatabaseSync(path, { timeout: 2000 });
    const before = measured(db);
    db.exec('VACUUM; PRAGMA wal_checkpoint(TRUNCATE);');
    return { before, after: measured(db) };
  } catch (error) {
    throw sqliteError(error, path);
  } finally {
    if (db?.isOpen) db.close();
  }
}
