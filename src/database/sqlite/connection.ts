/**
 * Opens one sqlite file the way the queue needs it and brings its schema up to date. Owns the pragmas; knows
 * nothing of mail.
 */
import { readFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { RelayError } from '../../base/errors.ts';
import { makePrivateFile } from '../../base/private-file.ts';
import { migrations } from '../migrations.ts';
import { sqliteError } from './errors.ts';

/**
 * Measured best of 4, 8 and 16 KiB: a message of 1 KB costs 9.5 µs CPU (against 10.9 and 9.3), one of 10 KB 34 µs
 * (against 43 and 47), and a commit of one message still writes little.
 */
const PAGE_BYTES = 8192;
const CACHE_KIB = 32_768;
/**
 * For mail only a safety net: the worker checkpoints earlier, between commits and after the verdicts went out. Actions on many
 * entries meet it: with 8000 pages mail waited for 64 MB to be written, with fewer than 2000 the same pages are written more often.
 */
const AUTO_CHECKPOINT_PAGES = 3000;
const WAL_KEEP_BYTES = 64 * 1024 * 1024;
const BUSY_TIMEOUT_MS = 2000;

export interface ConnectionOptions {
  /** File, or ':memory:'. */
  path: string;
  /** Folder of NNN-name.sql migrations. */
  sqlDir: string;
  readOnly?: boolean;
}

function storedVersion(db: DatabaseSync, path: string): number {
  const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
  if (tables.length === 0) return 0;
  const ours = tables.some((table) => table.name === 'relay_state');
  const row = ours
    ? db.prepare("SELECT value FROM relay_state WHERE name = 'schema_version'").get()
    : undefined;
  const version = Number(row?.value);
  if (Number.isInteger(version) && version > 0) return version;
  throw new RelayError(
    'schema_unknown',
    `database ${path} holds tables that are not a relay's queue: set database.path to another file`,
  );
}

function migrate(db: DatabaseSync, options: ConnectionOptions): void {
  const scripts = migrations(options.sqlDir);
  const newest = Math.max(...scripts.keys());
  let version = storedVersion(db, options.path);
  if (version > newest)
    throw new RelayError(
      'schema_unknown',
      `database ${options.path} has schema version ${version}, this relay knows up to ${newest}: run the newer relay, or set database.path to another file`,
    );
  if (version < newest && options.readOnly)
    throw new RelayError(
      'schema_unknown',
      `database ${options.path} has the older schema version ${version}: start the relay once to upgrade it`,
    );
  while (version < newest) {
    version++;
    const script = scripts.get(version);
    if (script === undefined)
      throw new RelayError('schema_unknown', `no migration ${version} in ${options.sqlDir}`);
    db.exec('BEGIN IMMEDIATE');
    try {
      db.exec(readFileSync(script, 'utf8'));
      db.prepare(
        "INSERT INTO relay_state VALUES ('schema_version', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
      ).run(String(version));
      db.exec('COMMIT');
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
  }
}

/** Makes the file. If that fails, SQLite reports it when it opens the file. */
function makeQuietly(path: string): void {
  try {
    makePrivateFile(path);
  } catch {}
}

/**
 * Opens or creates the database. Throws RelayError 'database_corrupt', 'database_unavailable', 'database_full' or
 * 'schema_unknown'.
 */
export function openConnection(options: ConnectionOptions): DatabaseSync {
  let db: DatabaseSync | null = null;
  try {
    if (options.path !== ':memory:' && !options.readOnly) makeQuietly(options.path);
    db = new DatabaseSync(options.path, { readOnly: options.readOnly ?? false, timeout: BUSY_TIMEOUT_MS });
    if (!options.readOnly)
      db.exec(`PRAGMA page_size = ${PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;
        PRAGMA wal_autocheckpoint = ${AUTO_CHECKPOINT_PAGES}; PRAGMA journal_size_limit = ${WAL_KEEP_BYTES};`);
    db.exec(`PRAGMA cache_size = -${CACHE_KIB}; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF;`);
    migrate(db, options);
    return db;
  } catch (error) {
    if (db?.isOpen) db.close();
    throw sqliteError(error, options.path);
  }
}
