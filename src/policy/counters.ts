/**
 * Token buckets by name. `CounterStore` is what the policy knows of them; `HostCounters` keeps them in the memory that
 * all threads and processes of a host share. `cluster.ts` adds what other nodes took, in its own time: whoever takes
 * tokens waits for nobody.
 */
import { type Drained, NotedSlots, notedBytes } from './noted-slots.ts';
import { SlotTable, slotsOf } from './slot-table.ts';

/** `limit` tokens come back in `intervalMs`; at most `burst` are there at once. */
export interface Bucket {
  limit: number;
  intervalMs: number;
  burst: number;
}

/** 0: the tokens were taken. Else none was taken, and they will be there after so many milliseconds. */
export type Taken = number;

export interface CounterStore {
  /** Takes tokens from the bucket of this name, which begins full. */
  take(name: string, tokens: number, bucket: Bucket, nowMs: number): Taken | Promise<Taken>;
}

/** Longest time until nodes hear what another one took, with some slack. */
const UNHEARD_US = 2_000_000;

/** Bytes of memory for what other nodes are to be told, given the number of buckets. */
export const untoldBytes = (slots: number): number => notedBytes + slotsOf(slots) * 8;

/**
 * The generic cell rate algorithm: all that is kept of a bucket is the time at which it will be full again, one word that
 * is moved by compare-and-exchange. A time in the past means a full bucket, so nothing has to be swept.
 */
export class HostCounters implements CounterStore {
  readonly table: SlotTable;
  /** Microseconds of the policy's time: the table's memory as 64-bit words, of which slot n has the one at 2n + 1. */
  readonly #fullAt: BigInt64Array;
  /** For each slot the tokens taken here that other nodes were not told of, in microseconds; null: there are no others. */
  readonly #untold: BigInt64Array | null = null;
  readonly #noted: NotedSlots | null = null;
  #nowUs = 0;

  /** @param toldAt offset of the memory for what other nodes are to be told (`untoldBytes`); null: there are no others. */
  constructor(memory: ArrayBufferLike, offset: number, slots: number, toldAt: number | null = null) {
    this.table = new SlotTable(memory, offset, slots);
    const { words } = this.table;
    this.#fullAt = new BigInt64Array(words.buffer, words.byteOffset, words.length / 2);
    if (toldAt === null) return;
    this.#noted = new NotedSlots(memory, toldAt);
    this.#untold = new BigInt64Array(memory, toldAt + notedBytes, this.table.slots);
  }

  take(name: string, tokens: number, { limit, intervalMs, burst }: Bucket, nowMs: number): Taken {
    const nowUs = nowMs * 1000;
    this.#nowUs = nowUs;
    // In whole microseconds: else rounding each take adds up to more than the bucket holds, and its last token is never given.
    const perTokenUs = Math.round((intervalMs * 1000) / limit);
    const capacityUs = perTokenUs * Math.max(burst, tokens);
    // Nodes together can take too much before they hear of each other: at most a bucket each, and what came back meanwhile.
    const { nodes } = this.table;
    const debtUs = capacityUs * nodes + (nodes - 1) * UNHEARD_US;
    const slot = this.table.claim(name, this.#worth, this.#clear);
    const at = slot * 2 + 1;
    for (;;) {
      const before = Atomics.load(this.#fullAt, at);
      // That is the most anybody waits for, whatever other nodes said.
      const fullAt = Math.min(Math.max(Number(before), nowUs), nowUs + debtUs);
      const after = Math.round(fullAt + perTokenUs * tokens);
      if (after > nowUs + capacityUs) {
        if (fullAt < Number(before))
          Atomics.compareExchange(this.#fullAt, at, before, BigInt(Math.round(fullAt)));
        return Math.ceil((after - nowUs - capacityUs) / 1000);
      }
      if (Atomics.compareExchange(this.#fullAt, at, before, BigInt(after)) !== before) continue;
      if (this.#untold !== null) this.#note(slot, perTokenUs * tokens);
      return 0;
    }
  }

  #note(slot: number, costUs: number): void {
    const cost = BigInt(Math.max(1, Math.round(costUs)));
    if (Atomics.add(this.#untold as BigInt64Array, slot, cost) === 0n) this.#noted?.add(slot);
  }

  /** Calls `take` with each slot that was taken from since the last time, and the cost. At most `most`; the rest comes next. */
  drain(most: number, take: (slot: number, costUs: number) => void): Drained {
    const [untold, noted] = [this.#untold, this.#noted];
    if (untold === null || noted === null) return 'all';
    const one = (slot: number): void => {
      const costUs = Number(Atomics.exchange(untold, slot, 0n));
      if (costUs > 0) take(slot, costUs);
    };
    const drained = noted.drain(most, one);
    // More slots were noted than fit: the whole table is searched.
    if (drained === 'overflowed')
      for (let slot = 0; slot < untold.length; slot++) if (untold[slot] !== 0n) one(slot);
    return drained;
  }

  /** Another node took tokens worth `costUs`, at `atUs`. */
  addTaken(tag: number, place: number, costUs: number, atUs: number, nowUs: number): void {
    this.#move(tag, place, nowUs, (fullAt) => Math.max(fullAt, atUs) + costUs);
  }

  /** On another node this bucket will not be full before `fullAtUs`. */
  raise(tag: number, place: number, fullAtUs: number, nowUs: number): void {
    this.#move(tag, place, nowUs, (fullAt) => Math.max(fullAt, fullAtUs));
  }

  #move(tag: number, place: number, nowUs: number, next: (fullAt: number) => number): void {
    if (tag === 0) return;
    // The bucket is full again by now, and nobody has taken from it here: it needs no slot.
    if (next(0) <= nowUs && this.table.findAt(tag, place) < 0) return;
    this.#nowUs = nowUs;
    const at = this.table.claimAt(tag, place, this.#worth, this.#clear) * 2 + 1;
    for (;;) {
      const before = Atomics.load(this.#fullAt, at);
      const after = BigInt(Math.round(next(Number(before))));
      if (after <= before || Atomics.compareExchange(this.#fullAt, at, before, after) === before) return;
    }
  }

  /** When the bucket in a slot will be full, in microseconds. */
  fullAtUs(slot: number): number {
    return Number(Atomics.load(this.#fullAt, slot * 2 + 1));
  }

  /** How long until the bucket is full: the longest is forgotten last. */
  readonly #worth = (slot: number): number => Number(this.#fullAt[slot * 2 + 1]) - this.#nowUs;
  readonly #clear = (slot: number): void => {
    Atomics.store(this.#fullAt, slot * 2 + 1, 0n);
    if (this.#untold !== null) Atomics.store(this.#untold, slot, 0n);
  };
}
