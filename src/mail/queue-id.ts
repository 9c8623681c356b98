/**
 * Queue ids: 16 characters of lower-case Crockford base32, unique without coordination: 9 of milliseconds since 1970, 3
 * of origin (which thread of which process made it), 3 of sequence, 1 of shard (the database that holds the message; 0
 * where there is only one), so that new shards move nothing. They are ordered by time, so that rows are appended at the
 * right edge of every B-tree. Older versions made ids of 15 characters, without a shard.
 */
const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';
const SEQUENCES = 32 ** 3;
const SHARD_AT = 15;
/**
 * Most threads of one process that make ids: 64 for sessions, 63 for delivery, and the main thread. The rest of the
 * origin tells processes apart.
 */
const THREADS = 128;
/** How many processes may share a queue. */
export const PROCESS_SLOTS = SEQUENCES / THREADS;
/** How many shards queue ids can name. */
export const MAX_SHARDS = 32;

/** The origin of a thread's ids. @param slot of its process, 0…255. */
export const originOf = (slot: number, thread: number): number => slot * THREADS + thread;

function base32(value: number, width: number): string {
  let text = '';
  for (let i = 0; i < width; i++) {
    text = (DIGITS[value % 32] as string) + text;
    value = Math.floor(value / 32);
  }
  return text;
}

export class QueueIds {
  #lastMs: number;
  #prefix = '';
  #sequence = SEQUENCES;
  readonly #origin: string;
  readonly #now: () => number;

  /**
   * @param origin 0…32767 (see originOf), different for every generator whose ids may meet.
   * @param notBeforeMs the time of the newest stored id + 1. Ids begin no earlier, so that a clock that stepped back
   *   while we were stopped cannot repeat an id that is still in the database.
   */
  constructor(origin: number, notBeforeMs: number, now: () => number = Date.now) {
    this.#origin = base32(origin, 3);
    this.#lastMs = notBeforeMs;
    this.#now = now;
  }

  /** A new id; never the same twice, and never smaller than the one before, whatever the clock does. */
  next(shard = 0): string {
    return this.nextBase() + (DIGITS[shard] as string);
  }

  /** A new id without its last character, the shard. */
  nextBase(): string {
    const nowMs = this.#now();
    if (nowMs > this.#lastMs) this.#tick(nowMs);
    else if (this.#sequence >= SEQUENCES) this.#tick(this.#lastMs + 1);
    return this.#prefix + base32(this.#sequence++, 3);
  }

  #tick(ms: number): void {
    this.#lastMs = ms;
    this.#sequence = 0;
    this.#prefix = base32(ms, 9) + this.#origin;
  }
}

/** Ids that were made before this moment come before this text, all others behind it. */
export const queueIdAt = (ms: number): string => base32(Math.max(0, Math.floor(ms)), 9);

/** Milliseconds since 1970 at which the id was made. */
export function queueIdTimeMs(queueId: string): number {
  let ms = 0;
  for (let i = 0; i < 9; i++) ms = ms * 32 + Math.max(0, DIGITS.indexOf(queueId[i] ?? '0'));
  return ms;
}

/** Not later than any id that is made from then on, and later than all before. */
export const queueIdFrom = (ms: number): string => base32(Math.max(0, ms), 9);

/** Number of the shard that holds the message. */
export function shardOfQueueId(queueId: string): number {
  return queueId.length > SHARD_AT ? Math.max(0, DIGITS.indexOf(queueId[SHARD_AT] as string)) : 0;
}

/** Completes an id from `nextBase`. */
export const withShard = (base: string, shard: number): string => base + (DIGITS[shard] as string);

export function isQueueId(text: string): boolean {
  return /^[0-9a-hjkmnp-tv-z]{15,16}$/.test(text);
}
