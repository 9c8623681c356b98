/** Counts what a selection means, in slices. */

import type { OutboxState } from '../mail/outbox-state.ts';
import { type CountKey, type CountSlice, noSums } from '../mail/queue-counts.ts';
import type { Selection } from './database.ts';
import { type Asking, ask, MAILS, matchesIn, sliceAfter } from './select-rows.ts';
import { compile, type Dialect } from './selection.ts';
import { parseRuns, seqsOf } from './seq-runs.ts';

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
  tenant: "coalesce(m.tenant, '')",
  campaign: "coalesce(m.campaign, '')",
  class: "coalesce(m.mail_class, '')",
  pool: "coalesce(m.pool, '')",
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
