/**
 * Counts what a selection means, in all and by a key. How many values of the key are remembered is bounded: the smallest
 * are forgotten first, and the answer says so.
 */
import type { OutboxState, Selection } from './database.ts';
import { type Asking, ask, MAILS, matchesIn, sliceAfter } from './select-rows.ts';
import { compile, type Dialect } from './selection.ts';
import { parseRuns, seqsOf } from './seq-runs.ts';

export const COUNT_KEYS = ['destination', 'domain', 'state', 'sender', 'reason', 'user'] as const;
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

/** Sums of one slice, which has whole messages. */
class Tally {
  readonly sums = noSums();
  #mail = '';

  add(mail: string, recipients: number, entryRecipients: number, bytes: number): void {
    const { sums } = this;
    sums.entries++;
    sums.recipients += recipients;
    sums.entryRecipients += entryRecipients;
    if (mail === this.#mail) return;
    this.#mail = mail;
    sums.messages++;
    sums.bytes += bytes;
  }
}

const KEY_COLUMN: Readonly<Record<Exclude<CountKey, 'domain'>, string>> = {
  destination: 'o.destination',
  state: 'o.state',
  sender: 'm.reverse_path',
  reason: 'o.reason',
  user: "coalesce(m.auth_user, '')",
};

interface CountedRow {
  id: string;
  state: OutboxState;
  waiting: number;
  bounced: number;
  bytes: number;
  key: string;
  seqs: string | null;
}

/** @param most rows to look at. */
export function* countRows(
  selection: Selection,
  by: CountKey | null,
  dialect: Dialect,
  after: string,
  most: number,
): Asking<CountSlice> {
  const compiled = compile(selection, dialect);
  const chosen = by === 'domain' ? { ...compiled, recipient: compiled.recipient ?? ANY } : compiled;
  const { range, matches, next } = yield* sliceAfter(chosen, dialect, after, most);
  if (matches?.size === 0) return { total: noSums(), groups: [], next };
  const key = by === null || by === 'domain' ? "''" : KEY_COLUMN[by];
  const seqs = matches === null ? "CASE WHEN o.state = 'SENT' THEN o.seqs END" : 'o.seqs';
  const rows = yield* ask<CountedRow>(
    `SELECT o.mail_id AS id, o.state, o.waiting, o.bounced, m.size_bytes AS bytes, ${key} AS \`key\`, ${seqs} AS seqs
     FROM ${dialect.outbox}${MAILS} WHERE ${range.sql} AND ${chosen.entry.sql} ORDER BY o.mail_id`,
    [...range.values, ...chosen.entry.values],
  );
  const total = new Tally();
  const groups = new Map<string, Tally>();
  const addTo = (name: string, row: CountedRow, recipients: number, all: number): void => {
    const group = groups.get(name) ?? new Tally();
    groups.set(name, group);
    group.add(row.id, recipients, all, row.bytes);
  };
  for (const row of rows) {
    const { state, waiting, bounced } = row;
    const all =
      state === 'SENT' ? seqsOf(parseRuns(row.seqs ?? '')).length : state === 'DEAD' ? bounced : waiting;
    const some = matches && matchesIn({ state, seqs: row.seqs ?? '' }, matches.get(row.id) ?? []);
    if (some?.length === 0) continue;
    total.add(row.id, some?.length ?? all, all, row.bytes);
    if (by === 'domain')
      for (const [domain, { length }] of Map.groupBy(some ?? [], (one) => one.domain))
        addTo(domain, row, length, all);
    else if (by !== null) addTo(row.key, row, some?.length ?? all, all);
  }
  return { total: total.sums, groups: [...groups].map(([name, { sums }]) => ({ key: name, ...sums })), next };
}

const ANY = { sql: '1 = 1', values: [] };

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
