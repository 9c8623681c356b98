/**
 * The persistence thread's side: owns the database connection and the storage, opens them when first needed, opens
 * them anew after the disk failed, and does one task at a time.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import type { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import { openConnection } from '../database/sqlite/connection.ts';
import { SqliteDatabase } from '../database/sqlite/sqlite-database.ts';
import type { RouteTable } from '../mail/destination.ts';
import type { Arena } from '../native.ts';
import { DatabaseStorage } from '../storage/database-storage.ts';
import { LocalStorage } from '../storage/local-storage.ts';
import type { Storage } from '../storage/storage.ts';
import { StorageByRef } from '../storage/storage-by-ref.ts';
import { AttachmentIndex } from './attachment-index.ts';
import { decodeBatch, encodeResult } from './batch-wire.ts';
import { type Answer, type Task, type TaskResults, toFault } from './tasks.ts';

const SQL_DIR = fileURLToPath(new URL('../../config/sql/sqlite/', import.meta.url));
const MEMORY = ':memory:';
/** Objects of large contents, relative to data_dir. */
export const CONTENT_FOLDER = 'content';

export interface QueueThreadOptions {
  config: Config;
  arena: Arena;
  spillDir: string;
  readOnly?: boolean;
}

export function routeTable(config: Config): RouteTable {
  return {
    smarthost: config.delivery.smarthost !== undefined,
    routed: new Set(Object.keys(config.delivery.routes)),
  };
}

/** Local objects lie in a folder per day, so their names have a slash; those of the database provider have none. */
function createStorage(db: DatabaseSync, arena: Arena, config: Config): Storage {
  const spillThresholdBytes = config.spill_threshold_bytes;
  const local = new LocalStorage(arena, { folder: config.storage.local.path, spillThresholdBytes });
  const folder = join(config.data_dir, CONTENT_FOLDER);
  const database = new DatabaseStorage(db, arena, { folder, spillThresholdBytes });
  const ownerOf = (object: string): Storage => (object.includes('/') ? local : database);
  return config.storage.provider === 'local'
    ? new StorageByRef(local, [database], ownerOf)
    : new StorageByRef(database, [local], ownerOf);
}

export class QueueThread {
  readonly #options: QueueThreadOptions;
  #database: SqliteDatabase | null = null;

  constructor(options: QueueThreadOptions) {
    this.#options = options;
  }

  /** Does a task. Never rejects: faults are part of the answer. */
  async run(task: Task): Promise<Answer> {
    try {
      const value = task.kind === 'close' ? await this.close() : await this.#dispatch(this.open(), task);
      return this.#answer(value, null);
    } catch (error) {
      const fault = toFault(error);
      if (fault.code === 'database-unavailable') this.#drop();
      return this.#answer(null, fault);
    }
  }

  #answer(value: unknown, fault: Answer['fault']): Answer {
    const database = this.#database;
    return { value, fault, mails: database?.mails ?? 0, logBytes: database?.logBytes ?? 0 };
  }

  open(): SqliteDatabase {
    if (this.#database !== null) return this.#database;
    const { config, arena, readOnly } = this.#options;
    const { path, max_messages: maxMessages } = config.database;
    const db = openConnection({ path, sqlDir: SQL_DIR, readOnly: readOnly ?? false });
    const index = new AttachmentIndex(arena);
    try {
      this.#database = new SqliteDatabase(db, createStorage(db, arena, config), arena, {
        file: path,
        nodeId: config.node_id,
        routes: routeTable(config),
        keepSentMs: config.queue.keep_sent_ms,
        keepDeadMs: config.queue.keep_dead_ms,
        maxMessages: path === MEMORY ? maxMessages : null,
        attachments: config.index_attachments ? (message) => index.of(message) : () => [],
      });
    } catch (error) {
      db.close();
      throw error as RelayError;
    }
    return this.#database;
  }

  #dispatch(
    database: SqliteDatabase,
    task: Exclude<Task, { kind: 'close' }>,
  ): Promise<TaskResults[Task['kind']]> | TaskResults[Task['kind']] {
    switch (task.kind) {
      case 'commit':
        return database.commit(decodeBatch(task.batch)).then(encodeResult);
      case 'fate':
        return database.fate(task.token);
      case 'claim':
        return database.claim(task.request, task.owner);
      case 'unclaim':
        return database.releaseLeases(task.owner, task.nowMs);
      case 'backlog':
        return database.backlog();
      case 'backlogOf':
        return database.backlogOf(task.destinations);
      case 'recover':
        this.#wipeSpill();
        return database.recover(task.nowMs);
      case 'release':
        return database.release(task.rows, task.nowMs).then(() => null);
      case 'purge':
        return database.purge(task.nowMs, task.limit);
      case 'list':
        return database.listSlice(task.filter);
      case 'show':
        return database.show(task.queueId);
      case 'content':
        return database.content(task.queueId, task.offset, task.maxBytes);
      case 'stats':
        return database.statsSlice(task.after);
      case 'operate':
        return database.operateSlice(task.action, task.target, task.nowMs, task.after);
      case 'checkpoint':
        database.checkpoint();
        return null;
      default:
        return task satisfies never;
    }
  }

  /** Spill files of the life before belong to messages that were never acknowledged. */
  #wipeSpill(): void {
    const { spillDir } = this.#options;
    let names: string[];
    try {
      names = readdirSync(spillDir);
    } catch {
      return; // not made yet
    }
    for (const name of names) rmSync(join(spillDir, name), { recursive: true, force: true });
  }

  /** After an input/output error the connection's view of the file is not trusted; what is in memory has no other copy. */
  #drop(): void {
    if (this.#options.config.database.path === MEMORY) return;
    this.close().catch(() => {}); // the error that matters is already on its way; the next task opens anew
  }

  async close(): Promise<null> {
    const database = this.#database;
    this.#database = null;
    await database?.close();
    return null;
  }
}
