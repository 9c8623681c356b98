/**
 * How many connections a client, its network and all together have open, over the processes of a host: a count-min
 * sketch in shared memory, a region for each process, so that those of one that died can be cleared. A count may be
 * too high when others fall into its cells in all rows, never too low.
 */
import { hash } from './slot-table.ts';

const ROWS = 4;
const CELLS = 32_768;
const HEADER_WORDS = 16;
const TOTAL = 0;
const REGION_WORDS = HEADER_WORDS + ROWS * CELLS;

export const sketchBytes = (processes: number): number => processes * REGION_WORDS * 4;

/** Gives back the connections of a process that died. */
export function clearSketch(memory: ArrayBufferLike, offset: number, process: number): void {
  new Int32Array(memory, offset + process * REGION_WORDS * 4, REGION_WORDS).fill(0);
}

export class ConnectionSketch {
  readonly #words: Int32Array;
  readonly #own: number;
  readonly #end: number;

  constructor(memory: ArrayBufferLike, offset: number, processes: number, process: number) {
    this.#words = new Int32Array(memory, offset, processes * REGION_WORDS);
    this.#own = process * REGION_WORDS;
    this.#end = this.#words.length;
  }

  /** One more (1) or one less (-1), of all and of a name. */
  count(change: 1 | -1): void {
    Atomics.add(this.#words, this.#own + TOTAL, change);
  }

  add(name: string, change: 1 | -1): void {
    const mixed = hash(name, 0);
    for (let row = 0; row < ROWS; row++) Atomics.add(this.#words, this.#own + cell(mixed, row), change);
  }

  total(): number {
    return this.#sum(TOTAL);
  }

  of(name: string): number {
    const mixed = hash(name, 0);
    let least = Number.POSITIVE_INFINITY;
    for (let row = 0; row < ROWS; row++) least = Math.min(least, this.#sum(cell(mixed, row)));
    return least;
  }

  #sum(word: number): number {
    let sum = 0;
    for (let at = word; at < this.#end; at += REGION_WORDS) sum += Atomics.load(this.#words, at);
    return sum;
  }
}

function cell(mixed: number, row: number): number {
  let h = Math.imul(mixed ^ Math.imul(row + 1, 0x9e3779b9), 0x85ebca6b);
  h ^= h >>> 15;
  return HEADER_WORDS + row * CELLS + (h & (CELLS - 1));
}
