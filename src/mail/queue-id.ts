/**
 * Queue ids: 15 characters of lower-case Crockford base32, time-ordered, unique without coordination:
 * 9 of milliseconds since 1970, 3 of origin (which thread of which process made it), 3 of sequence.
 * Time-ordered so that rows append at the right edge of every B-tree.
 */
const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';
const SEQUENCES = 32 ** 3;

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
   * @param origin 0…32767, different for every generator whose ids may meet.
   * @param notBeforeMs start no earlier than this, so that a clock that stepped back while we were stopped
   *   cannot repeat an id that is still in the database (pass the time of the newest stored id + 1).
   */
  constructor(origin: number, notBeforeMs: number, now: () => number = Date.now) {
    this.#origin = base32(origin, 3);
    this.#lastMs = notBeforeMs;
    this.#now = now;
  }

  /** A new id; never the same twice, and never smaller than the one before, whatever the clock does. */
  next(): string {
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

/** Milliseconds since 1970 at which the id was made. */
export function queueIdTimeMs(queueId: string): number {
  let ms = 0;
  for (let i = 0; i < 9; i++) ms = ms * 32 + Math.max(0, DIGITS.indexOf(queueId[i] ?? '0'));
  return ms;
}

export function isQueueId(text: string): boolean {
  return /^[0-9a-hjkmnp-tv-z]{15}$/.test(text);
}
