/**
 * The persistence thread's side: owns the connections to the queue databases and the storage, opens them when first
 * needed, and opens them anew after they failed. With sqlite it does one task at a time, with servers as many as it
 * is given.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import type { SuppressionNotes } from '../database/database.ts';
import type { QueueDatabase } from '../database/queue-database.ts';
import { type ShardServer, shardServers } from '../database/shard-servers.ts';
import { openConnection } from '../database/sqlite/connection.ts';
import { SqliteDatabase } from '../database/sqlite/sqlite-database.ts';
import { SuppressionFile } from '../database/sqlite/suppression-file.ts';
import type { RouteTable } from '../mail/destination.ts';
import type { QueueFile } from '../mail/queue-stats.ts';
import type { Arena } from '../native.ts';
import { DatabaseStorage } from '../storage/database-storage.ts';
import type { SayNote } from '../storage/notes.ts';
import { openStorage } from '../storage/open-storage.ts';
import type { Storage } from '../storage/storage.ts';
import { UnconfiguredStorage } from '../storage/unconfigured-storage.ts';
import { decodeBatch, encodeResult } from './batch-wire.ts';
import { type Answer, type Task, type TaskResults, toFault } from './tasks.ts';

const SQL_DIR = fileURLToPath(new URL('../../config/sql/sqlite/', import.meta.url));
const MEMORY = ':memory:';
/** Objects of large contents, relative to data_dir. */
export const CONTENT_FOLDER = 'content';
/** Younger objects may belong to a commit another thread or node is about to make. */
const SWEEP_MIN_AGE_MS = 3_600_000;

export interface QueueThreadOptions {
  config: Config;
  arena: Arena;
  spillDir: string;
  /** 'node#life': names this process in leases and commits of servers. */
  owner?: string;
  /** How many connections it may have to each server. */
  connections?: number;
  readOnly?: boolean;
  /** Is given what the storage has to tell the operator. */
  say?: SayNote;
  /** Is told of entries of the suppression list. */
  suppressed?: SuppressionNotes;
}

export function routeTable(config: Config): RouteTable {
  return {
    smarthost: config.delivery.smarthost !== undefined,
    routed: new Set(Object.keys(config.delivery.routes)),
  };
}

/** The name of this queue among all that share a root or a base path: made once, kept with the queue. */
function ownerName(db: DatabaseSync): string {
  const name = 'storage_owner';
  db.prepare('INSERT OR IGNORE INTO relay_state (name, value) VALUES (?, ?)').run(
    name,
    randomBytes(6).toString('hex'),
  );
  return db.prepare('SELECT value FROM relay_state WHERE name = ?').get(name)?.value as string;
}

function sqliteStorage(db: DatabaseSync, { config, arena, spillDir, say }: QueueThreadOptions): Storage {
  const folder = join(config.data_dir, CONTENT_FOLDER);
  const spillThresholdBytes = config.spill_threshold_bytes;
  let owner: string | null = null;
  return openStorage({
    config,
    arena,
    spillDir,
    database: new DatabaseStorage(db, arena, { folder, spillThresholdBytes, say: say ?? (() => {}) }),
    owner() {
      owner ??= ownerName(db);
      return owner;
    },
    sweepMinAgeMs: 0, // sqlite has one writer: this one
    say: say ?? (() => {}),
  });
}

function serverStorage({ config, arena, spillDir, say }: QueueThreadOptions, owner: string): Storage {
  return openStorage({
    config,
    arena,
    spillDir,
    database: new UnconfiguredStorage('database.driver sqlite'),
    owner: () => owner,
    sweepMinAgeMs: SWEEP_MIN_AGE_MS,
    say: say ?? (() => {}),
  });
}

const keepsFailed = ({ keep_failed_messages, keep_failed_mb }: Config['queue']): boolean =>
  keep_failed_messages > 0 && keep_failed_mb > 0;

export class QueueThread {
  readonly #options: QueueThreadOptions;
  readonly #shards: ShardServer[];
  readonly #databases = new Map<number, QueueDatabase | Promise<QueueDatabase>>();
  /** The storage of each shard on servers; the sqlite database has its own. */
  readonly #storages = new Map<number, Storage>();
  /** The suppression lists in the queues of other processes, by their files. */
  readonly #suppressions = new Map<string, SuppressionFile>();
  /** What was said last of the queue's file. */
  #file: QueueFile | null = null;

  constructor(options: QueueThreadOptions) {
    this.#options = options;
    this.#shards = shardServers(options.config.database);
  }

  /** Does a task. Never rejects: faults are part of the answer. */
  async run(task: Task, shard = 0): Promise<Answer> {
    let database: QueueDatabase | null = null;
    try {
      if (task.kind === 'close') return this.#answer(await this.close(), null, null);
      if (task.kind === 'sweep') return this.#answer(await this.#sweep(), null, null);
      if (task.kind === 'suppression' && task.file !== null)
        return this.#answer(this.#suppressionsIn(task.file).answer(task.ask), null, null);
      database = await this.#open(shard);
      return this.#answer(await this.#dispatch(database, task), null, database);
    } catch (error) {
      const fault = toFault(error);
      if (fault.code === 'database_unavailable') this.#drop();
      return this.#answer(null, fault, database);
    }
  }

  #suppressionsIn(file: string): SuppressionFile {
    let list = this.#suppressions.get(file);
    if (list === undefined) {
      list = new SuppressionFile(file, this.#options.suppressed ?? null);
      this.#suppressions.set(file, list);
    }
    return list;
  }

  #open(shard: number): QueueDatabase | Promise<QueueDatabase> {
    const open = this.#databases.get(shard);
    if (open !== undefined) return open;
    if (this.#shards.length === 0) return this.open();
    const opening = this.#openServer(shard);
    this.#databases.set(shard, opening);
    opening.then(
      (database) => this.#databases.set(shard, database),
      () => this.#databases.delete(shard),
    );
    return opening;
  }

  async #openServer(id: number): Promise<QueueDatabase> {
    const shard = this.#shards.find((one) => one.id === id);
    const { config, arena, owner = `${config.node_id}#0`, connections = 1 } = this.#options;
    if (shard === undefined) throw new RelayError('database_refused', `no shard has the number ${id}`);
    // The connector costs memory that a relay on sqlite has no use for.
    const { openMysql } = await import('../database/mysql/open.ts');
    const storageOf = (name: string): Storage => {
      const storage = serverStorage(this.#options, name);
      this.#storages.set(id, storage);
      return storage;
    };
    return openMysql(shard, connections, storageOf, arena, { ...this.#rowOptions(), owner });
  }

  /** The sqlite database. */
  open(): SqliteDatabase {
    const open = this.#databases.get(0);
    if (open instanceof SqliteDatabase) return open;
    const { config, arena, readOnly } = this.#options;
    if (config.database.driver !== 'sqlite')
      throw new Error(`a ${config.database.driver} database is not opened as a file`);
    const { path, max_messages: maxMessages } = config.database;
    const db = openConnection({ path, sqlDir: SQL_DIR, readOnly: readOnly ?? false });
    try {
      const database = new SqliteDatabase(db, sqliteStorage(db, this.#options), arena, {
        ...this.#rowOptions(),
        file: path,
        nodeId: config.node_id,
        maxMessages: path === MEMORY ? maxMessages : null,
      });
      this.#databases.set(0, database);
      return database;
    } catch (error) {
      db.close();
      throw error as RelayError;
    }
  }

  #rowOptions() {
    const { config, suppressed } = this.#options;
    return {
      routes: routeTable(config),
      keepDeliveredMs: config.queue.keep_delivered_ms,
      keepFailedMs: keepsFailed(config.queue) ? config.queue.keep_failed_ms : 0,
      ...(suppressed === undefined ? {} : { suppressed }),
    };
  }

  #dispatch(
    database: QueueDatabase,
    task: Exclude<Task, { kind: 'close' | 'sweep' }>,
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
      case 'renew':
        return database.renew(task.rows, task.leaseUntilMs);
      case 'due':
        return database.due(task.nowMs);
      case 'enroll':
        return database.enroll(task.slot);
      case 'shardsOfUsers':
        return database.shardsOfUsers(task.users);
      case 'journalMark':
        return database.journalMark(task.journal);
      case 'exchangeRules':
        return database.exchangeRules(task.news, task.digest);
      case 'suppression':
        return database.suppression(task.ask);
      case 'ping':
        return database.ping().then(() => null);
      case 'backlog':
        return database.backlog();
      case 'recover':
        if (task.fresh) this.#wipeSpill();
        return database.recover(task.nowMs);
      case 'suspect':
        return database.suspect(task.rows, task.nowMs);
      case 'markSuspects':
        return database.markSuspects(task.rows).then(() => null);
      case 'release':
        return database.release(task.rows, task.nowMs).then(() => null);
      case 'purge':
        return database.purge(task.nowMs, task.limit, task.cut);
      case 'failed':
        return database.failedSlice(task.left, task.before);
      case 'lines':
        return database.linesSlice(task.filter);
      case 'count':
        return database.countSlice(task.selection, task.by, task.after);
      case 'show':
        return database.show(task.queueId);
      case 'content':
        return database.content(task.queueId, task.offset, task.maxBytes);
      case 'stats':
        return database.statsSlice(task.after, task.nowMs);
      case 'operate':
        return database.operateSlice(task.action, task.selection, task.nowMs, task.after, task.within);
      case 'compact':
        return database.compact();
      case 'checkpoint':
        database.checkpoint();
        return null;
      default:
        return task satisfies never;
    }
  }

  /**
   * Deletes objects no mail of any shard refers to. A shard that does not answer keeps all of them: it may hold
   * their mails.
   */
  async #sweep(): Promise<number> {
    const databases = await Promise.all(this.#shards.map(({ id }) => this.#open(id)));
    const isReferenced = async (object: string): Promise<boolean> => {
      for (const database of databases) if (await database.isReferenced(object)) return true;
      return false;
    };
    let swept = 0;
    for (const storage of this.#storages.values()) swept += await storage.sweep(isReferenced);
    return swept;
  }

  /** Deletes spill files of the life before: they belong to messages that were never acknowledged. */
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

  /**
   * After an input/output error the connection's view of the file is not trusted, so it is closed; a database in memory
   * stays, because there is no other copy. The pool of a server replaces its connections one by one.
   */
  #drop(): void {
    const { database } = this.#options.config;
    if (database.driver !== 'sqlite' || database.path === MEMORY) return;
    this.close().catch(() => {}); // the error that matters is already on its way; the next task opens anew
  }

  async close(): Promise<null> {
    const databases = [...this.#databases.values()];
    this.#databases.clear();
    const storages = [...this.#storages.values()];
    this.#storages.clear();
    for (const list of this.#suppressions.values()) list.close();
    this.#suppressions.clear();
    await Promise.all(databases.map(async (database) => (await database).close()));
    await Promise.all(storages.map((storage) => storage.close()));
    return null;
  }

  #answer(value: unknown, fault: Answer['fault'], database: QueueDatabase | null): Answer {
    const measured = database?.file ?? null;
    const file = measured === this.#file ? null : measured;
    if (file !== null) this.#file = file;
    return { value, fault, mails: database?.mails ?? 0, logBytes: database?.logBytes ?? 0, file };
  }
}
