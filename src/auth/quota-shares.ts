/**
 * Quotas over the nodes of a cluster: what changed in the host's table since the last look is told to the others, and
 * what they tell is counted in it. Sessions count as if there were no other nodes. A copy of the table has what the
 * others know. Each call of `tell` compares a tenth of the table with it.
 */
import { RowWriter, readWords } from '../base/key-rows.ts';
import type { Quotas } from './quotas.ts';

const SLOT_WORDS = 8;
const COUNTERS = 4;
const PARTS = 10;
const COUNT_MASK = 0xffffffffn;
/** The first word of a row has the number of its hour or day in so many low bits, and the number of the counter above. */
const WINDOW_BITS = 30;
const WINDOW_MASK = 2 ** WINDOW_BITS - 1;

export class QuotaShares {
  readonly #quotas: Quotas;
  /** What the others were told, or told us; laid out like the table itself. */
  readonly #known: BigInt64Array;
  /** Both seen as 32-bit words, to be compared without making a BigInt. */
  readonly #halves: Int32Array;
  readonly #knownHalves: Int32Array;
  #next = 0;
  /** How many parts are still to be told whole (tellLevels). */
  #levels = 0;
  /** The next `tell` tells all changes at once, before the levels of others arrive, which would hide them. */
  #hurry = false;

  /** What is in the table at the start counts as told. */
  constructor(quotas: Quotas) {
    const { table } = quotas;
    this.#quotas = quotas;
    this.#known = table.slice();
    this.#halves = new Int32Array(table.buffer, table.byteOffset, table.length * 2);
    this.#knownHalves = new Int32Array(this.#known.buffer);
  }

  tellLevels(): void {
    this.#levels = PARTS;
    this.#hurry = true;
  }

  /** What changed in the next part of the table. */
  tell(): [name: string, value: Buffer][] {
    const slots = this.#known.length / SLOT_WORDS;
    const size = Math.ceil(slots / PARTS);
    const levels = this.#levels > 0;
    if (levels) this.#levels--;
    const [changes, all] = [new RowWriter(), new RowWriter()];
    const begin = this.#next * size;
    const end = Math.min(slots, begin + size);
    for (let slot = this.#hurry ? 0 : begin; slot < (this.#hurry ? slots : end); slot++)
      if (this.#isChanged(slot)) this.#tellChange(slot, changes);
    this.#hurry = false;
    for (let slot = begin; levels && slot < end; slot++) this.#tellLevel(slot, all);
    this.#next = (this.#next + 1) % PARTS;
    const fields: [string, Buffer][] = [];
    if (changes.rows > 0) fields.push(['quotas', changes.bytes()]);
    if (all.rows > 0) fields.push(['quota-levels', all.bytes()]);
    return fields;
  }

  hear(fields: ReadonlyMap<string, Buffer>): void {
    const changes = fields.get('quotas');
    if (changes !== undefined) readWords(changes, (...row) => this.#count('add', ...row));
    const levels = fields.get('quota-levels');
    if (levels !== undefined) readWords(levels, (...row) => this.#count('raise', ...row));
  }

  #isChanged(slot: number): boolean {
    const end = slot * SLOT_WORDS * 2 + 2 + COUNTERS * 2;
    for (let at = slot * SLOT_WORDS * 2; at < end; at++)
      if (this.#halves[at] !== this.#knownHalves[at]) return true;
    return false;
  }

  #tellChange(slot: number, rows: RowWriter): void {
    const first = slot * SLOT_WORDS;
    const { table } = this.#quotas;
    const key = Atomics.load(table, first);
    const isSame = this.#known[first] === key;
    this.#known[first] = key;
    for (let i = 0; i < COUNTERS; i++) {
      const value = Atomics.load(table, first + 1 + i);
      const known = this.#known[first + 1 + i] as bigint;
      this.#known[first + 1 + i] = value;
      const change = countOf(value) - (isSame && value >> 32n === known >> 32n ? countOf(known) : 0);
      if (change !== 0) write(rows, key, i, value, change);
    }
  }

  #tellLevel(slot: number, rows: RowWriter): void {
    const first = slot * SLOT_WORDS;
    if (this.#knownHalves[first * 2] === 0) return; // nobody's
    for (let i = 0; i < COUNTERS; i++) {
      const value = this.#known[first + 1 + i] as bigint;
      if (countOf(value) > 0) write(rows, this.#known[first] as bigint, i, value, countOf(value));
    }
  }

  #count(by: 'add' | 'raise', tag: number, place: number, first: number, second: number): void {
    const key = (BigInt(place) << 32n) | BigInt(tag >>> 0);
    if (key <= 0n) return;
    const [counter, window, count] = [first >>> WINDOW_BITS, first & WINDOW_MASK, second | 0];
    const { table } = this.#quotas;
    // Only what the others know is noted as known: what this host counted and has not told yet stays to be told.
    const word = this.#quotas.counted(key, counter, window, by, count);
    if (word < 0) return;
    const slot = word - 1 - counter;
    if (this.#known[slot] !== key) {
      this.#known[slot] = key;
      this.#known.fill(0n, slot + 1, slot + 1 + COUNTERS);
    }
    const known = this.#known[word] as bigint;
    const before = known >> 32n === BigInt(window) ? countOf(known) : 0;
    const after = by === 'add' ? Math.max(0, before + count) : Math.max(before, count);
    this.#known[word] = (BigInt(window) << 32n) | BigInt(Math.min(after, countOf(table[word] as bigint)));
  }
}

const countOf = (value: bigint): number => Number(value & COUNT_MASK);

function write(rows: RowWriter, key: bigint, counter: number, value: bigint, count: number): void {
  const window = Number(value >> 32n) & WINDOW_MASK;
  const first = counter * 2 ** WINDOW_BITS + window;
  rows.words(Number(BigInt.asIntN(32, key)), Number(key >> 32n), first, count);
}
