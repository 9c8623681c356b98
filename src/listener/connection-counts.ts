/**
 * How many connections are open, at all and from one address: what the limits of the connection policy are compared
 * with. `LocalCounts` knows those of this process; `SharedCounts` those of all relay processes of a host, in memory
 * that they share.
 */

/** Peers that are told apart by address; all Unix sockets share this one name, and only the total limits them. */
export const UNIX_PEER = 'unix';

export interface ConnectionLimits {
  total: number;
  perAddress: number;
}

export interface ConnectionCounts {
  /** Connections of this process. */
  readonly open: number;
  /** Takes a place for a connection; or says which limit it would break, and takes none. */
  enter(peer: string, limits: ConnectionLimits): 'total' | 'address' | null;
  /** Gives the place back; a peer that has none is passed over. */
  leave(peer: string): void;
}

export class LocalCounts implements ConnectionCounts {
  /** An address without connections has no entry. */
  readonly #byAddress = new Map<string, number>();
  #open = 0;

  get open(): number {
    return this.#open;
  }

  enter(peer: string, { total, perAddress }: ConnectionLimits): 'total' | 'address' | null {
    const count = this.#byAddress.get(peer) ?? 0;
    if (this.#open >= total) return 'total';
    if (peer !== UNIX_PEER && count >= perAddress) return 'address';
    this.#open++;
    this.#byAddress.set(peer, count + 1);
    return null;
  }

  leave(peer: string): void {
    const count = this.#byAddress.get(peer);
    if (count === undefined) return;
    this.#open--;
    if (count > 1) this.#byAddress.set(peer, count - 1);
    else this.#byAddress.delete(peer);
  }

  has(peer: string): boolean {
    return this.#byAddress.has(peer);
  }
}

/** Of a count-min sketch: an address counts in one cell of every row; the least of them is its count. */
const ROWS = 4;
const CELLS = 65_536;
const HEADER_WORDS = 16;
const REGION_WORDS = HEADER_WORDS + ROWS * CELLS;
const OPEN = 0;

/** Bytes of shared memory for so many processes (1 MiB each, touched only as used). */
export const sharedCountsBytes = (processes: number): number => processes * REGION_WORDS * 4;

/** Gives back the connections of a process that died. */
export function clearCounts(memory: ArrayBuffer, process: number): void {
  new Int32Array(memory, process * REGION_WORDS * 4, REGION_WORDS).fill(0);
}

/**
 * Every process writes its own region only and reads all of them, so nothing is locked and a dead process's counts
 * can be cleared. A place is taken before the sum is read: two processes at the limit may both refuse, never both
 * admit. An address may be counted too high, never too low, when others fall into its cells in all four rows: with
 * 20,000 addresses connected, one of about 200 counts one connection too many.
 */
export class SharedCounts implements ConnectionCounts {
  readonly #local = new LocalCounts();
  readonly #words: Int32Array;
  readonly #own: number;
  readonly #regions: number;

  /** @param memory as long as sharedCountsBytes says. */
  constructor(memory: ArrayBuffer, process: number) {
    this.#words = new Int32Array(memory);
    this.#own = process * REGION_WORDS;
    this.#regions = Math.floor(this.#words.length / REGION_WORDS);
  }

  get open(): number {
    return this.#local.open;
  }

  enter(peer: string, limits: ConnectionLimits): 'total' | 'address' | null {
    this.#count(peer, 1);
    const refusal =
      this.#sum(OPEN) > limits.total
        ? 'total'
        : peer !== UNIX_PEER && this.#ofAddress(peer) > limits.perAddress
          ? 'address'
          : null;
    if (refusal !== null) this.#count(peer, -1);
    else this.#local.enter(peer, { total: Number.POSITIVE_INFINITY, perAddress: Number.POSITIVE_INFINITY });
    return refusal;
  }

  leave(peer: string): void {
    if (!this.#local.has(peer)) return;
    this.#local.leave(peer);
    this.#count(peer, -1);
  }

  #count(peer: string, change: number): void {
    Atomics.add(this.#words, this.#own + OPEN, change);
    const hash = hashOf(peer);
    for (let row = 0; row < ROWS; row++) Atomics.add(this.#words, this.#own + cellOf(hash, row), change);
  }

  #ofAddress(peer: string): number {
    const hash = hashOf(peer);
    let least = Number.POSITIVE_INFINITY;
    for (let row = 0; row < ROWS; row++) least = Math.min(least, this.#sum(cellOf(hash, row)));
    return least;
  }

  #sum(word: number): number {
    let sum = 0;
    for (let region = 0; region < this.#regions; region++)
      sum += Atomics.load(this.#words, region * REGION_WORDS + word);
    return sum;
  }
}

/** FNV-1a, then mixed (the finalizer of MurmurHash3), so that neighbours fall far apart. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}

function cellOf(hash: number, row: number): number {
  let mixed = hash ^ Math.imul(row + 1, 0x9e3779b9);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return HEADER_WORDS + row * CELLS + ((mixed ^ (mixed >>> 16)) & (CELLS - 1));
}
