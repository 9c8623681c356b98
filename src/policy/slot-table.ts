/**
 * A hash table of fixed size in memory that several threads and processes share without locks. A slot is 16 bytes: a key
 * of 64 bits and a value of 64 bits. A new key overwrites what is worth least, so the table never fills up and never
 * fails. Two writers that take the same slot in the same moment may lose one of two updates; what is kept here (rates,
 * first sightings) bears that.
 */

export const SLOT_WORDS = 4;
/** A key lies in one of so many slots, counted from its place: they fill two cache lines. */
const PROBES = 8;
const HEADER_WORDS = 4;
/** Word at which the slots begin. */
export const slotTableWordsAt = HEADER_WORDS;
const SEED = 0;
/** Nodes that count together, this one included; 0: it counts alone. */
const NODES = 1;

export const slotTableBytes = (slots: number): number => (HEADER_WORDS + slotsOf(slots) * SLOT_WORDS) * 4;

/** Rounded up to a power of two, so that the low bits of a hash are a place. */
export function slotsOf(slots: number): number {
  let size = PROBES;
  while (size < slots) size *= 2;
  return size;
}

export class SlotTable {
  /** Two words of value for each slot, at `slot * 4 + 2`. */
  readonly words: Int32Array;
  readonly #mask: number;
  readonly #header: Int32Array;

  /** @param offset multiple of 16. */
  constructor(memory: ArrayBufferLike, offset: number, slots: number) {
    this.#header = new Int32Array(memory, offset, HEADER_WORDS);
    this.#mask = slotsOf(slots) - 1;
    this.words = new Int32Array(memory, offset + HEADER_WORDS * 4, (this.#mask + 1) * SLOT_WORDS);
  }

  /** @param seed random: a client cannot choose whose slot it shares. */
  static initialize(memory: ArrayBufferLike, offset: number, seed: number): void {
    new Int32Array(memory, offset, HEADER_WORDS)[SEED] = seed | 1;
  }

  get slots(): number {
    return this.#mask + 1;
  }

  get seed(): number {
    return Atomics.load(this.#header, SEED);
  }

  get nodes(): number {
    return Math.max(1, Atomics.load(this.#header, NODES));
  }

  set nodes(nodes: number) {
    Atomics.store(this.#header, NODES, nodes);
  }

  /** Hashes keys with this seed from now on; what was kept is forgotten. */
  reseed(seed: number): void {
    Atomics.store(this.#header, SEED, seed | 1);
    this.words.fill(0);
  }

  /** Half of the key in a slot, the other half being `placeOf`: both are the same on all nodes with this seed. 0: empty. */
  tagOf(slot: number): number {
    return Atomics.load(this.words, slot * SLOT_WORDS);
  }

  placeOf(slot: number): number {
    return this.words[slot * SLOT_WORDS + 1] as number;
  }

  /** The slot of a key, or -1. */
  find(key: string): number {
    const { seed } = this;
    return this.findAt(hash(key, ~seed) || 1, hash(key, seed));
  }

  /** The same for a key as `tagOf` and `placeOf` say it. */
  findAt(tag: number, place: number): number {
    for (let i = 0; i < PROBES; i++) {
      const slot = (place + i) & this.#mask;
      if (Atomics.load(this.words, slot * SLOT_WORDS) === tag && this.words[slot * SLOT_WORDS + 1] === place)
        return slot;
    }
    return -1;
  }

  /**
   * The slot of a key, taken for it when it had none.
   * @param worth of a slot in use: the least is overwritten when none is empty.
   * @param clear empties the value of a slot that changes hands.
   */
  claim(key: string, worth: (slot: number) => number, clear: (slot: number) => void): number {
    const { seed } = this;
    return this.claimAt(hash(key, ~seed) || 1, hash(key, seed), worth, clear);
  }

  /** The same for a key as `tagOf` and `placeOf` say it. */
  claimAt(
    tag: number,
    place: number,
    worth: (slot: number) => number,
    clear: (slot: number) => void,
  ): number {
    let least = -1;
    let leastWorth = Number.POSITIVE_INFINITY;
    for (let i = 0; i < PROBES; i++) {
      const slot = (place + i) & this.#mask;
      const owner = Atomics.load(this.words, slot * SLOT_WORDS);
      if (owner === tag && this.words[slot * SLOT_WORDS + 1] === place) return slot;
      const value = owner === 0 ? Number.NEGATIVE_INFINITY : Math.max(0, worth(slot));
      if (value < leastWorth) [least, leastWorth] = [slot, value];
    }
    Atomics.store(this.words, least * SLOT_WORDS, tag);
    this.words[least * SLOT_WORDS + 1] = place;
    clear(least);
    return least;
  }
}

/** FNV-1a over the characters, then mixed (the finalizer of MurmurHash3). */
export function hash(text: string, seed: number): number {
  let mixed = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) mixed = Math.imul(mixed ^ text.charCodeAt(i), 0x01000193);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
