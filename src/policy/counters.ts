/**
 * Token buckets by name. `CounterStore` is what the policy knows of them; `HostCounters` keeps them in the memory that
 * all threads and processes of a host share. A store of a cluster answers later: then the session waits.
 */
import { SlotTable } from './slot-table.ts';

/** `limit` tokens come back in `intervalMs`; at most `burst` are there at once. */
export interface Bucket {
  limit: number;
  intervalMs: number;
  burst: number;
}

/** 0: the tokens were taken; else none was, and so many milliseconds later they would be there. */
export type Taken = number;

export interface CounterStore {
  /** Takes tokens from the bucket of this name, which begins full. */
  take(name: string, tokens: number, bucket: Bucket, nowMs: number): Taken | Promise<Taken>;
}

/**
 * The generic cell rate algorithm: of a bucket only the time is kept at which it will be full again, one word that is
 * moved by compare-and-exchange. A time in the past is a full bucket, so nothing has to be swept.
 */
export class HostCounters implements CounterStore {
  readonly #table: SlotTable;
  /** Microseconds since 1970, one for each slot; the odd ones of the table seen as 64-bit words. */
  readonly #fullAt: BigInt64Array;
  #nowUs = 0;

  constructor(memory: ArrayBufferLike, offset: number, slots: number) {
    this.#table = new SlotTable(memory, offset, slots);
    const { words } = this.#table;
    this.#fullAt = new BigInt64Array(words.buffer, words.byteOffset, words.length / 2);
  }

  take(name: string, tokens: number, { limit, intervalMs, burst }: Bucket, nowMs: number): Taken {
    const nowUs = nowMs * 1000;
    this.#nowUs = nowUs;
    const perTokenUs = (intervalMs * 1000) / limit;
    const capacityUs = perTokenUs * Math.max(burst, tokens);
    const slot = this.#table.claim(name, this.#worth, this.#clear);
    const at = slot * 2 + 1;
    for (;;) {
      const before = Atomics.load(this.#fullAt, at);
      // A clock that was set back must not lock anybody out for longer than an empty bucket would.
      const fullAt = Math.min(Math.max(Number(before), nowUs), nowUs + capacityUs);
      const after = Math.round(fullAt + perTokenUs * tokens);
      if (after > nowUs + capacityUs) {
        if (fullAt < Number(before))
          Atomics.compareExchange(this.#fullAt, at, before, BigInt(Math.round(fullAt)));
        return Math.ceil((after - nowUs - capacityUs) / 1000);
      }
      if (Atomics.compareExchange(this.#fullAt, at, before, BigInt(after)) === before) return 0;
    }
  }

  /** How long its bucket is not full yet. */
  readonly #worth = (slot: number): number => Number(this.#fullAt[slot * 2 + 1]) - this.#nowUs;
  readonly #clear = (slot: number): void => {
    Atomics.store(this.#fullAt, slot * 2 + 1, 0n);
  };
}
