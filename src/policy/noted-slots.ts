/**
 * Slots of a table that other nodes are to hear of: a ring in shared memory, written by every thread and process of the
 * host, read by one. A writer waits for nobody; a reader that is late learns that it missed some.
 */
const RING_SLOTS = 16_384;
const HEADER_WORDS = 4;
const HEAD = 0;
const TAIL = 1;

export const notedBytes = (HEADER_WORDS + RING_SLOTS) * 4;

/** 'all': nothing is left; 'more': ask again; 'overflowed': some were missed, look at the whole table. */
export type Drained = 'all' | 'more' | 'overflowed';

export class NotedSlots {
  readonly #header: Int32Array;
  readonly #ring: Int32Array;
  /** Index at which the last drain found a place that a writer had claimed but not written. */
  #unwritten: number | null = null;

  /** @param offset multiple of 8, zeroed once. */
  constructor(memory: ArrayBufferLike, offset: number) {
    this.#header = new Int32Array(memory, offset, HEADER_WORDS);
    this.#ring = new Int32Array(memory, offset + HEADER_WORDS * 4, RING_SLOTS);
  }

  add(slot: number): void {
    const at = Atomics.add(this.#header, HEAD, 1);
    Atomics.store(this.#ring, at & (RING_SLOTS - 1), slot + 1);
  }

  /** Takes out what was noted, at most `most`. Only one thread of the host may do so. */
  drain(most: number, take: (slot: number) => void): Drained {
    const head = Atomics.load(this.#header, HEAD);
    let tail = this.#header[TAIL] as number;
    if (((head - tail) | 0) > RING_SLOTS || ((head - tail) | 0) < 0) {
      this.#ring.fill(0);
      this.#header[TAIL] = head;
      return 'overflowed';
    }
    for (let taken = 0; tail !== head && taken < most; taken++) {
      const slot = Atomics.exchange(this.#ring, tail & (RING_SLOTS - 1), 0);
      // Claimed, not written yet: we wait until the next drain. If it is not written by then, its writer died.
      if (slot === 0 && this.#unwritten !== tail) {
        this.#unwritten = tail;
        break;
      }
      if (slot !== 0) take(slot - 1);
      tail = (tail + 1) | 0;
    }
    this.#header[TAIL] = tail;
    return tail === head ? 'all' : 'more';
  }
}
