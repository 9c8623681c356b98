/**
 * What a host tells the other nodes about its buckets and its greylist, and what it does with what they tell. It tells
 * what was taken from its buckets since the last time, and the others take it from theirs too: so nobody has to ask
 * first, and when several hosts take at the same moment, the excess is a debt that all of them wait for. Levels (what is
 * missing in each bucket, all that the greylist knows) are told when a node joins or Redis comes back.
 */

import { RowWriter, readNumbers, readWords } from '../base/key-rows.ts';
import { type Greylist, shiftedSeen } from './greylist.ts';
import type { PolicyMemory } from './host-memory.ts';

export type Field = [name: string, value: Buffer | string];

/** Something else that is counted over all nodes, with fields of its own (quotas of users). */
export interface SharedCounts {
  /** What was counted here since the last time. */
  tell(): Field[];
  /** From the next `tell` on, all that was counted is told. */
  tellLevels(): void;
  hear(fields: ReadonlyMap<string, Buffer>): void;
}

/** At most so many rows are told at once, and so many slots looked at for them. */
const ROWS_AT_ONCE = 8192;
const SLOTS_AT_ONCE = 65_536;

export class ClusterLedger {
  readonly #memory: PolicyMemory;
  /** With the windows that the config says now. */
  readonly #greylist: () => Greylist;
  /** The next slots whose levels are to be told; null: all are told. */
  #levels: { bucket: number; seen: number } | null = null;

  readonly #also: SharedCounts | null;

  constructor(memory: PolicyMemory, greylist: () => Greylist, also: SharedCounts | null = null) {
    this.#also = also;
    this.#memory = memory;
    this.#greylist = greylist;
  }

  /** Seed of the keys' hashes: the greylist's, which is kept over a restart. */
  get seed(): number {
    return this.#memory.greylist.seed;
  }

  set nodes(nodes: number) {
    this.#memory.counters.table.nodes = nodes;
  }

  /** Hashes keys with this seed from now on; what was kept under another is forgotten. False when it is no seed. */
  agree(seed: number): boolean {
    if (!Number.isInteger(seed) || (seed | 1) !== seed) return false;
    const { greylist, counters } = this.#memory;
    if (greylist.seed !== seed) greylist.reseed(seed);
    if (counters.table.seed !== (~seed | 1)) counters.table.reseed(~seed);
    return true;
  }

  /** From the next `tell` on, all that is known here is told. */
  tellLevels(): void {
    this.#levels = { bucket: 0, seen: 0 };
    this.#also?.tellLevels();
  }

  /** Drops what is still to be told. */
  forgetUntold(): void {
    const nothing = (): void => {};
    while (this.#memory.counters.drain(ROWS_AT_ONCE, nothing) === 'more');
    while (this.#memory.greylistNoted?.drain(ROWS_AT_ONCE, nothing) === 'more');
  }

  /** What there is to tell now, and whether there is more. @param aheadMs how far the clock of Redis is ahead of ours. */
  tell(nowMs: number, aheadMs = 0): { fields: Field[]; more: boolean } {
    const fields: Field[] = [];
    const add = (name: string, rows: RowWriter): void => {
      if (rows.rows > 0) fields.push([name, rows.bytes()]);
    };
    const { counters, greylist, greylistNoted } = this.#memory;
    const taken = new RowWriter();
    const left = counters.drain(ROWS_AT_ONCE, (slot, costUs) =>
      taken.number(counters.table.tagOf(slot), counters.table.placeOf(slot), costUs),
    );
    add('taken', taken);
    const rules = this.#greylist();
    const seen = new RowWriter();
    const aheadS = Math.round(aheadMs / 1000);
    const tellSeen = (slot: number): void => {
      const { first, last } = shiftedSeen(rules.seen(slot), aheadS);
      if (last !== 0) seen.words(greylist.tagOf(slot), greylist.placeOf(slot), first, last);
    };
    const noted = greylistNoted?.drain(ROWS_AT_ONCE, tellSeen) ?? 'all';
    if (noted === 'overflowed')
      this.#levels = { bucket: this.#levels?.bucket ?? counters.table.slots, seen: 0 };
    this.#tellLevels(nowMs, tellSeen, seen, add);
    add('seen', seen);
    if (this.#also !== null) fields.push(...this.#also.tell());
    return { fields, more: left === 'more' || noted === 'more' };
  }

  #tellLevels(
    nowMs: number,
    tellSeen: (slot: number) => void,
    seen: RowWriter,
    add: (name: string, rows: RowWriter) => void,
  ): void {
    const levels = this.#levels;
    if (levels === null) return;
    const { counters, greylist } = this.#memory;
    const { table } = counters;
    const missing = new RowWriter();
    let end = Math.min(table.slots, levels.bucket + SLOTS_AT_ONCE);
    for (; levels.bucket < end && missing.rows < ROWS_AT_ONCE; levels.bucket++) {
      const missingUs = counters.fullAtUs(levels.bucket) - nowMs * 1000;
      if (missingUs > 0) missing.number(table.tagOf(levels.bucket), table.placeOf(levels.bucket), missingUs);
    }
    add('missing', missing);
    end = Math.min(greylist.slots, levels.seen + SLOTS_AT_ONCE);
    for (; levels.seen < end && seen.rows < ROWS_AT_ONCE; levels.seen++) tellSeen(levels.seen);
    if (levels.bucket === table.slots && levels.seen === greylist.slots) this.#levels = null;
  }

  /** Takes in what another node told. @param atMs when, by our clock. */
  hear(fields: ReadonlyMap<string, Buffer>, atMs: number, nowMs: number, aheadMs = 0): void {
    const { counters } = this.#memory;
    this.#also?.hear(fields);
    const [atUs, nowUs] = [Math.round(atMs * 1000), Math.round(nowMs * 1000)];
    const taken = fields.get('taken');
    if (taken !== undefined)
      readNumbers(taken, (tag, place, costUs) => counters.addTaken(tag, place, costUs, atUs, nowUs));
    const missing = fields.get('missing');
    if (missing !== undefined)
      readNumbers(missing, (tag, place, us) => counters.raise(tag, place, atUs + us, nowUs));
    const seen = fields.get('seen');
    if (seen === undefined) return;
    const rules = this.#greylist();
    const aheadS = Math.round(aheadMs / 1000);
    readWords(seen, (tag, place, first, last) =>
      rules.merge(tag, place, shiftedSeen({ first, last }, -aheadS)),
    );
  }
}
