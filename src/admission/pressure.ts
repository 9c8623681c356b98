/**
 * Measures every quarter of a second what the relay runs short of (memory, disk, database, room for content) and writes
 * it to the gauges, where session threads read it. Owns GAUGE.pressure and GAUGE.overloaded; decides nothing about
 * single commands.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { freemem } from 'node:os';
import type { Aside } from '../base/aside.ts';
import type { FieldsOf, Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { Arena } from '../native.ts';
import { type DiskConfig, DiskSpace } from './disk-space.ts';
import { GAUGE, type Gauges, PRESSURE } from './gauges.ts';

const MEASURE_INTERVAL_MS = 250;
const SECOND_MEASURE_MS = 20;
const MEGABYTE = 1024 * 1024;
/** Content memory counts as short when less than this share of it is free: content on its way in must still find room. */
const CONTENT_RESERVE_SHARE = 1 / 32;

type Thresholds = Pick<
  Config,
  | 'inbound_persist_wait_timeout_ms'
  | 'persist_min_available_memory_mb'
  | 'persist_min_free_disk_mb'
  | 'persist_min_db_available_connections'
> & {
  smtp: Pick<Config['smtp'], 'overload_hold_ms'>;
  database: Config['database'];
} & DiskConfig;

export interface PressureOptions {
  config: Thresholds;
  gauges: Gauges;
  arena: Pick<Arena, 'freeBytes' | 'totalBytes'>;
  log: Log;
  aside: Aside;
  /** Age of the commit under way; 0 without one. */
  commitAgeMs(): number;
  /** A commit failed lately. */
  databaseFailing(): boolean;
  /** Connections to the database that are free; null: assume one, unless a commit hangs or failed. */
  freeConnections?(): number | null;
  /** The journal has no room for more mail; absent: there is no journal. */
  journalFull?(): boolean;
  /** Bytes of the queue's file that are in use; absent: 0. */
  queueFileBytes?(): number;
  /** Messages in an in-memory queue. */
  mails(): number;
  /** Bytes taken in that are still to be written; absent: 0. */
  unwrittenBytes?(): number;
  /** Called at every measurement with the bytes that may still be written until the disk is as full as it may get. */
  diskRoom?(bytes: number): void;
  /** This and the rest are for tests. */
  now?: () => number;
  availableMemory?: () => number;
  freeDisk?: (path: string) => Promise<number>;
}

const NAMES = new Map<number, string>(Object.entries(PRESSURE).map(([name, code]) => [code, name]));

export class PressureGauge {
  readonly #options: PressureOptions;
  readonly #gauges: Gauges;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #availableMemory: () => number;
  readonly #disk: DiskSpace;
  #config: Thresholds;
  #sinceMs: number | null = null;
  #freeDisk = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: PressureOptions) {
    this.#options = options;
    this.#config = options.config;
    this.#gauges = options.gauges;
    this.#log = options.log;
    this.#now = options.now ?? steadyMs;
    this.#availableMemory = options.availableMemory ?? availableMemory;
    this.#disk = new DiskSpace(options.log, options.freeDisk);
  }

  /** New thresholds after a reload. */
  reconfigure(config: Thresholds): void {
    this.#config = config;
  }

  start(): void {
    this.measure();
    // A second time soon: by then the disk has answered the first measurement.
    const measure = (): void => this.#options.aside.now('pressure', () => this.measure());
    setTimeout(measure, SECOND_MEASURE_MS).unref();
    this.#timer = setInterval(measure, MEASURE_INTERVAL_MS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** Measures once and writes the gauges. Free disk space is what the disk answered to an earlier measurement. */
  measure(): void {
    const { unwrittenBytes, diskRoom } = this.#options;
    this.#freeDisk = this.#disk.freeBytes(this.#config) - (unwrittenBytes?.() ?? 0);
    diskRoom?.(this.#freeDisk - this.#config.persist_min_free_disk_mb * MEGABYTE);
    const code = this.#code();
    const before = Atomics.exchange(this.#gauges, GAUGE.pressure, code);
    if (code !== before) this.#tell(before, code);
    if (code === PRESSURE.none) this.#sinceMs = null;
    else this.#sinceMs ??= this.#now();
    const overloaded =
      this.#sinceMs !== null && this.#now() - this.#sinceMs >= this.#config.smtp.overload_hold_ms;
    const was = Atomics.exchange(this.#gauges, GAUGE.overloaded, overloaded ? 1 : 0) === 1;
    if (overloaded !== was)
      this.#log.warn(overloaded ? 'overload.began' : 'overload.ended', { pressure: NAMES.get(code) ?? null });
  }

  /** For `protorelay status`. */
  figures(): { pressure: string | null; overloaded: boolean; freeDiskBytes: number | null } {
    const code = Atomics.load(this.#gauges, GAUGE.pressure);
    return {
      pressure: code === PRESSURE.none ? null : (NAMES.get(code) ?? null),
      overloaded: Atomics.load(this.#gauges, GAUGE.overloaded) === 1,
      freeDiskBytes: Number.isFinite(this.#freeDisk) ? this.#freeDisk : null,
    };
  }

  #code(): number {
    const config = this.#config;
    if (this.#availableConnections() < config.persist_min_db_available_connections) return PRESSURE.database;
    if (this.#options.journalFull?.() === true) return PRESSURE.journal;
    if (this.#freeDisk < config.persist_min_free_disk_mb * MEGABYTE) return PRESSURE.disk;
    if (this.#availableMemory() < config.persist_min_available_memory_mb * MEGABYTE) return PRESSURE.memory;
    const { database } = config;
    const inMemory = database.driver === 'sqlite' && database.path === ':memory:';
    if (inMemory && this.#options.mails() >= database.max_messages) return PRESSURE.messages;
    if (database.driver === 'sqlite' && database.max_mb > 0) {
      const used = this.#options.queueFileBytes?.() ?? 0;
      if (used >= database.max_mb * MEGABYTE) return PRESSURE.queue_file;
    }
    const { arena } = this.#options;
    if (arena.freeBytes() < arena.totalBytes * CONTENT_RESERVE_SHARE) return PRESSURE.content_memory;
    return PRESSURE.none;
  }

  /** The one writer of sqlite is free unless its commit hangs, or just failed. */
  #availableConnections(): number {
    const free = this.#options.freeConnections?.() ?? null;
    if (free !== null) return free;
    const hangs = this.#options.commitAgeMs() >= this.#config.inbound_persist_wait_timeout_ms;
    return hangs || this.#options.databaseFailing() ? 0 : 1;
  }

  #tell(before: number, code: number): void {
    if (code === PRESSURE.none) this.#log.info('pressure.ended', { pressure: NAMES.get(before) ?? null });
    else this.#log.warn('pressure.began', { pressure: NAMES.get(code) ?? null, ...this.#figures() });
  }

  #figures(): Omit<FieldsOf<'pressure.began'>, 'pressure'> {
    const { arena, commitAgeMs } = this.#options;
    return {
      available_memory_mb: Math.round(this.#availableMemory() / MEGABYTE),
      free_disk_mb: Number.isFinite(this.#freeDisk) ? Math.round(this.#freeDisk / MEGABYTE) : null,
      commit_age_ms: commitAgeMs(),
      free_content_mb: Math.round(arena.freeBytes() / MEGABYTE),
      content_mb: Math.round(arena.totalBytes / MEGABYTE),
    };
  }
}

/** Bytes of memory available without swapping: MemAvailable where the kernel says it (Linux), else free memory. */
export function availableMemory(): number {
  return readMemAvailable() ?? freemem();
}

function readMemAvailable(): number | null {
  let fd: number;
  try {
    fd = openSync('/proc/meminfo', 'r');
  } catch {
    return null; // not Linux
  }
  try {
    const bytes = Buffer.allocUnsafe(512);
    const text = bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0));
    const found = /^MemAvailable:\s+(\d+) kB$/m.exec(text);
    return found ? Number(found[1]) * 1024 : null;
  } finally {
    closeSync(fd);
  }
}
