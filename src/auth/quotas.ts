/**
 * Quotas of users: counters in a file that all session threads of all relay processes of the host have mapped. Counting is
 * an atomic operation in the thread that has the message, without a word between threads, and outlives processes. (A
 * machine that loses power may lose the last seconds of counting, never more.)
 *
 * A slot is 64 bytes: key, four counters, the rest unused. A counter is the number of its hour or day in the upper half
 * and the count in the lower, so that a new window begins with the same compare-and-exchange that counts.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, linkSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import { makeFolder } from '../base/make-folder.ts';
import { mapSharedMemory } from '../native.ts';
import type { UserQuotas } from './auth.ts';

const SLOT_WORDS = 8;
const SLOT_BYTES = SLOT_WORDS * 8;
/** Slots looked at for one user; when others have them all, the table counts as full. */
const PROBES = 64;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const COUNT_MASK = 0xffffffffn;

const COUNTERS = [
  { name: 'messagesPerHour', windowMs: HOUR_MS, of: 'messages' },
  { name: 'messagesPerDay', windowMs: DAY_MS, of: 'messages' },
  { name: 'recipientsPerHour', windowMs: HOUR_MS, of: 'recipients' },
  { name: 'recipientsPerDay', windowMs: DAY_MS, of: 'recipients' },
] as const;
type Counter = keyof UserQuotas;

/** null: taken. Else the quota that is used up, or 'full' when the table has no room for the user. */
export type QuotaRefusal = Counter | 'full' | null;

export class Quotas {
  /** The slots, of SLOT_WORDS words each. */
  readonly table: BigInt64Array;
  readonly #slots: number;
  readonly #now: () => number;

  /** @param memory zeroed once, a multiple of 64 bytes. */
  constructor(memory: ArrayBufferLike, now: () => number) {
    this.table = new BigInt64Array(memory);
    this.#slots = memory.byteLength / SLOT_BYTES;
    this.#now = now;
  }

  /** Whether so many more would be within the quotas now; counts nothing. */
  check(user: string, quotas: UserQuotas, messages: number, recipients: number): QuotaRefusal {
    if (!isLimited(quotas)) return null;
    const slot = this.#slot(user);
    if (slot < 0) return 'full';
    for (const [i, { name, windowMs, of }] of COUNTERS.entries()) {
      const more = of === 'messages' ? messages : recipients;
      if (quotas[name] > 0 && more > 0 && this.#count(slot + 1 + i, windowMs) + more > quotas[name])
        return name;
    }
    return null;
  }

  /** Counts a message and its recipients; with a refusal, nothing is counted. */
  take(user: string, quotas: UserQuotas, recipients: number): QuotaRefusal {
    if (!isLimited(quotas)) return null;
    const slot = this.#slot(user);
    if (slot < 0) return 'full';
    for (const [i, { name, windowMs, of }] of COUNTERS.entries()) {
      const more = of === 'messages' ? 1 : recipients;
      if (this.#add(slot + 1 + i, windowMs, more, quotas[name])) continue;
      for (let j = 0; j < i; j++) this.#subtract(slot, j, recipients);
      return name;
    }
    return null;
  }

  /** Gives back what `take` counted for a message that was not accepted after all. */
  giveBack(user: string, quotas: UserQuotas, recipients: number): void {
    if (!isLimited(quotas)) return;
    const slot = this.#slot(user);
    if (slot >= 0) for (let i = 0; i < COUNTERS.length; i++) this.#subtract(slot, i, recipients);
  }

  #count(word: number, windowMs: number): number {
    const value = Atomics.load(this.table, word);
    return value >> 32n === this.#window(windowMs) ? Number(value & COUNT_MASK) : 0;
  }

  /** False when that would exceed the limit. 0: no limit; it is counted nevertheless, for a limit that comes later. */
  #add(word: number, windowMs: number, more: number, limit: number): boolean {
    const window = this.#window(windowMs);
    for (;;) {
      const value = Atomics.load(this.table, word);
      const count = value >> 32n === window ? Number(value & COUNT_MASK) : 0;
      if (limit > 0 && count + more > limit) return false;
      const next = (window << 32n) | BigInt(Math.min(count + more, 0x7fffffff));
      if (Atomics.compareExchange(this.table, word, value, next) === value) return true;
    }
  }

  /** In a new window there is nothing to give back. */
  #subtract(slot: number, counter: number, recipients: number): void {
    const { windowMs, of } = COUNTERS[counter] as (typeof COUNTERS)[number];
    const less = of === 'messages' ? 1 : recipients;
    for (;;) {
      const value = Atomics.load(this.table, slot + 1 + counter);
      if (value >> 32n !== this.#window(windowMs)) return;
      const count = Math.max(0, Number(value & COUNT_MASK) - less);
      const next = ((value >> 32n) << 32n) | BigInt(count);
      if (Atomics.compareExchange(this.table, slot + 1 + counter, value, next) === value) return;
    }
  }

  #window(windowMs: number): bigint {
    return BigInt(Math.floor(this.#now() / windowMs));
  }

  /**
   * Takes another node's count into a counter of ours.
   * @param by 'add': `count` is added; 'raise': the counter becomes at least `count`.
   * @returns the counter's word; -1 when the window is not the current one, or there is no room.
   */
  counted(key: bigint, counter: number, window: number, by: 'add' | 'raise', count: number): number {
    const { windowMs } = COUNTERS[counter] as (typeof COUNTERS)[number];
    if (BigInt(window) !== this.#window(windowMs)) return -1;
    const slot = this.#slotOf(key);
    if (slot < 0) return -1;
    for (const word = slot + 1 + counter; ; ) {
      const value = Atomics.load(this.table, word);
      const before = this.#count(word, windowMs);
      const after = by === 'add' ? Math.max(0, before + count) : Math.max(before, count);
      const next = (BigInt(window) << 32n) | BigInt(Math.min(after, 0x7fffffff));
      if (Atomics.compareExchange(this.table, word, value, next) === value) return word;
    }
  }

  /** First word of the user's slot. A new user gets a free one, or one whose user sent nothing today; -1: there is none. */
  #slot(user: string): number {
    return this.#slotOf(keyOf(user));
  }

  #slotOf(key: bigint): number {
    const start = Number((key & 0x7fffffffffffffffn) % BigInt(this.#slots));
    let stale = -1;
    for (let probe = 0; probe < Math.min(PROBES, this.#slots); probe++) {
      const word = ((start + probe) % this.#slots) * SLOT_WORDS;
      const found = Atomics.load(this.table, word);
      if (found === key) return word;
      if (found === 0n) return this.#claim(stale < 0 ? word : stale, key);
      if (stale < 0 && this.#isStale(word)) stale = word;
    }
    return stale < 0 ? -1 : this.#claim(stale, key);
  }

  #claim(word: number, key: bigint): number {
    const before = Atomics.load(this.table, word);
    if (before !== 0n && !this.#isStale(word)) return this.#slotOf(key);
    const was = Atomics.compareExchange(this.table, word, before, key);
    return was === before || was === key ? word : this.#slotOf(key);
  }

  #isStale(word: number): boolean {
    const day = this.#window(DAY_MS);
    return Atomics.load(this.table, word + 2) >> 32n < day && Atomics.load(this.table, word + 4) >> 32n < day;
  }
}

export function isLimited(quotas: UserQuotas): boolean {
  return (
    quotas.messagesPerHour > 0 ||
    quotas.messagesPerDay > 0 ||
    quotas.recipientsPerHour > 0 ||
    quotas.recipientsPerDay > 0
  );
}

/** 63 bits of a digest, never 0. */
function keyOf(user: string): bigint {
  return (createHash('sha256').update(user).digest().readBigInt64BE(0) & 0x7fffffffffffffffn) | 1n;
}

/**
 * The table in `folder`, made when there is none or one of another size. The whole file is written, since on a full disk
 * touching mapped memory over a hole in the file would crash.
 * @throws RelayError when the file or the memory cannot be had.
 */
export function openQuotas(folder: string, users: number, now: () => number = Date.now): Quotas {
  const bytes = users * SLOT_BYTES;
  const path = join(folder, `quotas-${users}`);
  makeFolder(folder, 0o700);
  let fd: number;
  try {
    fd = openOrCreate(path, bytes);
  } catch (error) {
    const text = `auth.max_quota_users: ${path} (${Math.ceil(bytes / 1_048_576)} MiB) cannot be written: ${(error as Error).message}`;
    throw new RelayError('data_dir_unusable', text, error);
  }
  try {
    return new Quotas(mapSharedMemory(fd, bytes), now);
  } finally {
    closeSync(fd);
  }
}

function openOrCreate(path: string, bytes: number): number {
  for (;;) {
    try {
      const fd = openSync(path, 'r+');
      if (fstatSync(fd).size === bytes) return fd;
      closeSync(fd);
      rmSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    // Other threads and processes may do the same now: the file that is linked first becomes the table of all.
    const made = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
    const fd = openSync(made, 'wx', 0o600);
    try {
      const zeros = Buffer.alloc(Math.min(bytes, 1 << 20));
      for (let at = 0; at < bytes; ) at += writeSync(fd, zeros, 0, Math.min(zeros.length, bytes - at), at);
      fsyncSync(fd);
      linkSync(made, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      closeSync(fd);
      rmSync(made, { force: true });
    }
  }
}
