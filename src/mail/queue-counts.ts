/**
 * How much a selection means, in all and by a key, put together from slices, processes or shards. How many values of the key
 * are remembered is bounded: the smallest are forgotten first, and the answer says so.
 */

export const COUNT_KEYS = [
  'destination',
  'domain',
  'state',
  'sender',
  'reason',
  'user',
  'tenant',
  'campaign',
  'class',
  'pool',
] as const;
export type CountKey = (typeof COUNT_KEYS)[number];

export interface Sums {
  entries: number;
  messages: number;
  /** Those that are meant. */
  recipients: number;
  /** All for whom these entries stand, meant or not. */
  entryRecipients: number;
  bytes: number;
}

export interface Group extends Sums {
  key: string;
}

export interface Counted extends Sums {
  /** The largest, by recipients. */
  groups: Group[];
  /** How many more groups there are. */
  moreGroups: number;
  /** true: values were forgotten, so that groups may be larger, and more. */
  forgotten: boolean;
}

export interface CountSlice {
  total: Sums;
  groups: Group[];
  next: string | null;
}

/** Most groups that are remembered between slices. */
const MAX_GROUPS = 10_000;
/** Most groups of an answer. */
const ANSWERED_GROUPS = 1000;

export const noSums = (): Sums => ({ entries: 0, messages: 0, recipients: 0, entryRecipients: 0, bytes: 0 });

function addSums(sum: Sums, more: Sums): void {
  sum.entries += more.entries;
  sum.messages += more.messages;
  sum.recipients += more.recipients;
  sum.entryRecipients += more.entryRecipients;
  sum.bytes += more.bytes;
}

/** Puts sums of slices, processes or shards together. */
class Counts {
  readonly #total = noSums();
  readonly #groups = new Map<string, Sums>();
  #more = 0;
  #forgotten = false;

  add(total: Sums, groups: readonly Group[]): void {
    addSums(this.#total, total);
    for (const { key, ...sums } of groups) {
      const known = this.#groups.get(key);
      if (known === undefined) this.#groups.set(key, sums);
      else addSums(known, sums);
    }
    if (this.#groups.size <= 2 * MAX_GROUPS) return;
    this.#forgotten = true;
    for (const [key] of this.#largest().slice(MAX_GROUPS)) this.#groups.delete(key);
  }

  addCounted({ groups, moreGroups, forgotten, ...total }: Counted): void {
    this.add(total, groups);
    this.#more += moreGroups;
    this.#forgotten ||= forgotten;
  }

  #largest(): [string, Sums][] {
    return [...this.#groups].sort(
      ([a, one], [b, two]) => two.recipients - one.recipients || (a < b ? -1 : 1),
    );
  }

  counted(): Counted {
    const all = this.#largest();
    return {
      ...this.#total,
      groups: all.slice(0, ANSWERED_GROUPS).map(([key, sums]) => ({ key, ...sums })),
      moreGroups: this.#more + Math.max(0, all.length - ANSWERED_GROUPS),
      forgotten: this.#forgotten,
    };
  }
}

export async function countBySlices(slice: (after: string) => Promise<CountSlice>): Promise<Counted> {
  const counts = new Counts();
  for (let after: string | null = ''; after !== null; ) {
    const { total, groups, next } = await slice(after);
    counts.add(total, groups);
    after = next;
  }
  return counts.counted();
}

/** Counts of several queues as one. */
export function mergeCounts(parts: readonly Counted[]): Counted {
  const counts = new Counts();
  for (const part of parts) counts.addCounted(part);
  return counts.counted();
}
