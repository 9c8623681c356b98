/**
 * Messages per second over the last minute at most, in three numbers: there is one for every key, and most are never
 * refused anything. What is older than a minute is halved with its time, so the mean leans to what is new.
 */
const LONGEST_MS = 60_000;
/** A burst within less says nothing of a rate. */
const SHORTEST_MS = 1000;

export class Tally {
  #fromMs = Number.NaN;
  #lastMs = 0;
  #count = 0;

  add(messages: number, nowMs: number): void {
    if (!(nowMs - this.#lastMs < LONGEST_MS) || !(nowMs >= this.#fromMs)) {
      this.#fromMs = nowMs;
      this.#count = 0;
    }
    const spanMs = nowMs - this.#fromMs;
    if (spanMs > LONGEST_MS) {
      this.#fromMs = nowMs - LONGEST_MS / 2;
      this.#count *= LONGEST_MS / 2 / spanMs;
    }
    this.#lastMs = nowMs;
    this.#count += messages;
  }

  /** NaN when there was nothing in the last minute. */
  perS(nowMs: number): number {
    const spanMs = nowMs - this.#fromMs;
    if (!(spanMs >= 0) || nowMs - this.#lastMs > LONGEST_MS) return Number.NaN;
    return (this.#count * 1000) / Math.max(SHORTEST_MS, spanMs);
  }

  restart(nowMs: number): void {
    this.#fromMs = this.#lastMs = nowMs;
    this.#count = 0;
  }
}
