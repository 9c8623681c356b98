/**
 * How the entries that an operator means are found, in slices of which each looks at a bounded number of rows, so that
 * the thread or server does other work between them. A slice is made of whole messages. The functions yield queries and
 * are given rows: each engine runs them in its own way.
 */

import type { OutboxState } from '../mail/outbox-state.ts';
import { type Band, cutsOf, PARTS } from './bands.ts';
import type { QueueFilter, RecipientStatus, Selection } from './database.ts';
import { type OperatedRow, QUEUE_LINE } from './outbox-rows.ts';
import {
  allOf,
  type Compiled,
  type Condition,
  compile,
  type Dialect,
  marksOf,
  type SqlValue,
} from './selection.ts';
import { parseRuns, seqsOf } from './seq-runs.ts';

export interface Query {
  sql: string;
  values: SqlValue[];
}

export type Asking<T> = Generator<Query, T, unknown[]>;

export function* ask<Row>(sql: string, values: SqlValue[]): Asking<Row[]> {
  return (yield { sql, values }) as Row[];
}

/** Up to so many messages with matching recipients are asked for by their ids. */
const FEW_MAILS = 500;
/** Above every queue id. */
const END = '~';

/** A recipient that matches. */
export interface Match {
  seq: number;
  status: RecipientStatus;
  address: string;
  domain: string;
}

export interface Slice {
  /** On `o`: the messages of the slice. */
  range: Condition;
  /** By message; null: whole entries are meant. */
  matches: Map<string, Match[]> | null;
  /** The message to go on after; null: the slice is the last one. */
  next: string | null;
}

/** The fate of the recipients for whom an entry of this state stands. */
const FATE: Readonly<Record<OutboxState, RecipientStatus>> = {
  PENDING: 'waiting',
  SENDING: 'waiting',
  RETRY: 'waiting',
  HELD: 'waiting',
  DEAD: 'bounced',
  SENT: 'delivered',
};

/** The entries after `after`. @param most rows to look at, but for the rest of the last message. */
export function* sliceAfter(chosen: Compiled, dialect: Dialect, after: string, most: number): Asking<Slice> {
  const { range, next } = yield* rangeAfter(chosen, dialect, after, most);
  if (chosen.recipient === null) return { range: range('o.mail_id'), matches: null, next };
  const within = range('r.mail_id');
  const found = yield* ask<Match & { id: string }>(
    `SELECT r.mail_id AS id, r.seq, r.status, r.address, r.domain FROM mail_recipients r
     WHERE ${within.sql} AND ${chosen.recipient.sql} ORDER BY r.mail_id, r.seq`,
    [...within.values, ...chosen.recipient.values],
  );
  const matches = Map.groupBy(found, ({ id }) => id);
  const ids = [...matches.keys()];
  return { range: ids.length <= FEW_MAILS ? among('o.mail_id', ids) : range('o.mail_id'), matches, next };
}

const among = (column: string, ids: readonly string[]): Condition =>
  ids.length === 0
    ? { sql: '1 = 0', values: [] }
    : { sql: `${column} IN (${marksOf(ids)})`, values: [...ids] };

/** The messages of a slice, as a condition on a column; `next` as of a Slice. */
export function* rangeAfter(
  { ids, recipient }: Compiled,
  { outbox }: Dialect,
  after: string,
  most: number,
): Asking<{ range(column: string): Condition; next: string | null }> {
  if (ids !== null) {
    const rest = ids.filter((id) => id > after);
    const part = rest.slice(0, FEW_MAILS);
    const next = part.length < rest.length ? (part.at(-1) as string) : null;
    return { range: (column) => among(column, part), next };
  }
  // Where recipients are looked at, it is their number that must be bounded.
  const [table, column] = recipient === null ? [outbox, 'o.mail_id'] : ['mail_recipients r', 'r.mail_id'];
  const [end] = yield* ask<{ id: string }>(
    `SELECT ${column} AS id FROM ${table} WHERE ${column} > ? ORDER BY ${column} LIMIT 1 OFFSET ${most - 1}`,
    [after],
  );
  const values = [after, end?.id ?? END];
  return { range: (of) => ({ sql: `${of} > ? AND ${of} <= ?`, values }), next: end?.id ?? null };
}

/** The recipients among `matches` (ascending) for whom the entry stands. */
export function matchesIn(row: { state: OutboxState; seqs: string }, matches: readonly Match[]): Match[] {
  const fate = FATE[row.state];
  const runs = parseRuns(row.seqs);
  let at = 0;
  return matches.filter(({ seq, status }) => {
    while (at < runs.length && (runs[at] as [number, number])[1] < seq) at++;
    return status === fate && at < runs.length && (runs[at] as [number, number])[0] <= seq;
  });
}

/** What an action needs of an entry. */
export interface SelectedRow extends OperatedRow {
  /** Recipients that wait. */
  waiting: number;
  bounced: number;
  /** Those that are meant, ascending; null: all of them. */
  some: Match[] | null;
}

/** Whether all recipients are meant for whom the entry stands. */
export function isWhole({ state, some, waiting, bounced, seqs }: SelectedRow): boolean {
  if (some === null) return true;
  const all = state === 'SENT' ? seqsOf(parseRuns(seqs)).length : state === 'DEAD' ? bounced : waiting;
  return some.length >= all;
}

/** Without those of which only a part is meant and nothing waits any more: what is over is not taken apart. */
export const deletable = (rows: readonly SelectedRow[]): SelectedRow[] =>
  rows.filter((row) => (row.state !== 'DEAD' && row.state !== 'SENT') || isWhole(row));

export interface SelectedRows {
  rows: SelectedRow[];
  next: string | null;
  /** On `o`: exactly these rows, as they are now; null where recipients had to be looked at. */
  condition: Condition | null;
  /** The messages looked at: those after the first id, up to the second; null where others were left out. */
  range: [after: string, until: string] | null;
  /** Where in the band after `next` the next slice begins; null: it begins a band, or there are none. */
  within: Band | null;
}

/** The entries of a slice that are meant. @param most rows to look at. */
export function* selectRows(
  selection: Selection,
  dialect: Dialect,
  after: string,
  most: number,
): Asking<SelectedRows> {
  const chosen = compile(selection, dialect);
  const { range, matches, next } = yield* sliceAfter(chosen, dialect, after, most);
  if (matches?.size === 0) return { rows: [], next, condition: null, range: null, within: null };
  const found = yield* rowsIn(chosen, dialect, range);
  const rows: SelectedRow[] = [];
  for (const { id, destination, state, seqs, waiting, bounced } of found) {
    const some = matches === null ? null : matchesIn({ state, seqs }, matches.get(id) ?? []);
    if (some === null || some.length > 0) rows.push({ id, destination, state, seqs, waiting, bounced, some });
  }
  const isRange = matches === null && chosen.ids === null;
  return {
    rows,
    next,
    range: isRange ? [after, next ?? END] : null,
    condition: matches === null ? allOf([range, chosen.alone]) : null,
    within: null,
  };
}

/**
 * The entries of a part of a band that are meant (bands.ts).
 * @param band null: a new one begins, with the messages after `after`. @param most entries that a part shall have.
 */
export function* selectPart(
  selection: Selection,
  dialect: Dialect,
  after: string,
  band: Band | null,
  most: number,
): Asking<SelectedRows> {
  const chosen = compile(selection, dialect);
  const { until, cuts } = band ?? (yield* bandAfter(chosen, dialect, after, most));
  const [from, to, ...more] = cuts as [string, string, ...string[]];
  const range = {
    sql: 'o.mail_id > ? AND o.mail_id <= ? AND o.destination > ? AND o.destination <= ?',
    values: [after, until, from, to],
  };
  const rows = from === to ? [] : yield* rowsIn(chosen, dialect, range);
  const isLast = more.length === 0;
  return {
    rows: rows.map((row) => ({ ...row, some: null })),
    next: !isLast ? after : until === END ? null : until,
    range: null,
    condition: allOf([range, chosen.alone]),
    within: isLast ? null : { until, cuts: [to, ...more] },
  };
}

function* bandAfter(chosen: Compiled, dialect: Dialect, after: string, most: number): Asking<Band> {
  const { range, next } = yield* rangeAfter(chosen, dialect, after, most * PARTS);
  const within = range('o.mail_id');
  const counts = yield* ask<{ destination: string; n: number }>(
    `SELECT o.destination, count(*) AS n FROM ${tablesOf(chosen, dialect)}
     WHERE ${within.sql} AND ${chosen.entry.sql} GROUP BY o.destination ORDER BY o.destination`,
    [...within.values, ...chosen.entry.values],
  );
  return { until: next ?? END, cuts: cutsOf(counts, most) };
}

function* rowsIn(chosen: Compiled, dialect: Dialect, range: Condition): Asking<Omit<SelectedRow, 'some'>[]> {
  return yield* ask<Omit<SelectedRow, 'some'>>(
    `SELECT o.mail_id AS id, o.destination, o.state, o.seqs, o.waiting, o.bounced
     FROM ${tablesOf(chosen, dialect)}
     WHERE ${range.sql} AND ${chosen.entry.sql} ORDER BY o.mail_id, o.destination`,
    [...range.values, ...chosen.entry.values],
  );
}

const tablesOf = ({ ofMails }: Compiled, { outbox }: Dialect): string => `${outbox}${ofMails ? MAILS : ''}`;

/** In this order also where the optimizer of SQLite would choose another. */
export const MAILS = ' CROSS JOIN mails m ON m.id = o.mail_id';

/** A page looks at this many rows at least: filters that match little need few pages. */
const LEAST_LOOKED = 1000;

interface Listed {
  queueId: string;
  line: string;
  state: OutboxState;
  seqs: string;
}

export interface ListSlice<Row> {
  rows: Row[];
  /** Ask again with this as afterQueueId; null at the end of the queue. */
  next: string | null;
}

/** A page of entries as lines (queue-lines.ts), in order of queue id; those of one message are never parted. */
export function* listLines(dialect: Dialect, filter: QueueFilter): Asking<ListSlice<string>> {
  const { selection = {}, limit, afterQueueId = '' } = filter;
  const chosen = compile(selection, dialect);
  const { range, matches, next } = yield* sliceAfter(
    chosen,
    dialect,
    afterQueueId,
    Math.max(limit, LEAST_LOOKED),
  );
  if (matches?.size === 0) return { rows: [], next };
  const columns = `${QUEUE_LINE}, o.mail_id AS queueId${matches === null ? '' : ', o.state, o.seqs'}`;
  const from = `SELECT ${columns} FROM ${dialect.outbox}${MAILS} WHERE`;
  // One row more than asked for tells whether the last message is complete.
  let found = yield* ask<Listed>(
    `${from} ${range.sql} AND ${chosen.entry.sql} ORDER BY o.mail_id, o.destination LIMIT ${limit + 1}`,
    [...range.values, ...chosen.entry.values],
  );
  let cut: string | null = null;
  if (found.length > limit) {
    cut = (found[limit - 1] as Listed).queueId;
    const begun = found.findIndex(({ queueId }) => queueId === cut);
    const whole = yield* ask<Listed>(`${from} o.mail_id = ? AND ${chosen.entry.sql} ORDER BY o.destination`, [
      cut,
      ...chosen.entry.values,
    ]);
    found = [...found.slice(0, begun), ...whole];
  }
  const meant = ({ queueId, ...row }: Listed): boolean =>
    matches === null || matchesIn(row, matches.get(queueId) ?? []).length > 0;
  return { rows: found.filter(meant).map(({ line }) => line), next: cut ?? next };
}
