/**
 * Recipients of a message move to another destination: because the route table changed, or because an operator wants it. Works
 * out in memory what the rows of one message become; each engine reads them, and writes what changed.
 */

import { domainKey } from '../base/domain.ts';
import { destinationOf, type RouteTable } from '../mail/destination.ts';
import type { Move } from '../mail/operator-action.ts';
import { failKey } from '../mail/operator-keys.ts';
import { FAILED_BY_OPERATOR } from '../mail/outcome.ts';
import type { SelectedRow } from './select-rows.ts';
import { parseRuns, seqsOf, seqsText } from './seq-runs.ts';

/** A row of the outbox with all that its recipients take along. */
export interface OutboxRow {
  id: string;
  destination: string;
  state: string;
  dueAt: number | null;
  attempts: number;
  fence: number;
  owner: string | null;
  seqs: string;
  waiting: number;
  bounced: number;
  delayNotified: number;
  deaths: number;
  reason: string;
  detail: string;
  operatorText: string;
}

/** Columns of an OutboxRow, of `mail_outbox`. */
export const OUTBOX_ROW = `mail_id AS id, destination, state, due_at AS dueAt, attempts, fence, lease_owner AS owner, seqs,
  waiting, bounced, delay_notified AS delayNotified, deaths, reason, detail, operator_text AS operatorText`;

/** The columns in the order of `outboxValues`. */
export const OUTBOX_COLUMNS = `mail_id, destination, state, due_at, attempts, fence, lease_owner, seqs, waiting, bounced,
  delay_notified, deaths, reason, detail, operator_text`;

export const outboxValues = (row: OutboxRow): (string | number | null)[] => [
  row.id,
  row.destination,
  row.state,
  row.dueAt,
  row.attempts,
  row.fence,
  row.owner,
  row.seqs,
  row.waiting,
  row.bounced,
  row.delayNotified,
  row.deaths,
  row.reason,
  row.detail,
  row.operatorText,
];

export interface MovedRecipient {
  seq: number;
  domain: string;
  status: string;
}

/** What becomes of a row, or of a part of it, besides that it has another key. */
type Change = (from: OutboxRow) => Partial<OutboxRow>;

/** Whether it waits for a time, or for an operator. */
export const isWaiting = ({ state }: OutboxRow): boolean =>
  state === 'PENDING' || state === 'RETRY' || state === 'HELD';
const isDue = ({ state }: OutboxRow): boolean => state === 'PENDING' || state === 'RETRY';
const isSettled = ({ state }: OutboxRow): boolean => state === 'SENT' || state === 'DEAD';

/** The rows of one message, or those of them that a move concerns. */
export class MovingRows {
  readonly #before: ReadonlyMap<string, OutboxRow>;
  readonly #after: Map<string, OutboxRow>;

  constructor(rows: readonly OutboxRow[]) {
    this.#before = new Map(rows.map((row) => [row.destination, row]));
    this.#after = new Map(this.#before);
  }

  has(destination: string): boolean {
    return this.#after.has(destination);
  }

  isSending(destination: string): boolean {
    return this.#after.get(destination)?.state === 'SENDING';
  }

  /** Moves waiting recipients of a row. @param moved their numbers, by their new destination. */
  move(
    destination: string,
    moved: ReadonlyMap<string, readonly number[]>,
    change: Change = () => ({}),
  ): void {
    const row = this.#after.get(destination) as OutboxRow;
    const gone = new Set([...moved.values()].flat());
    const rest = seqsOf(parseRuns(row.seqs)).filter((seq) => !gone.has(seq));
    const waiting = row.waiting - gone.size;
    const settled = { state: row.bounced > 0 ? 'DEAD' : 'SENT', dueAt: null };
    if (rest.length === 0) this.#after.delete(destination);
    else
      this.#after.set(destination, {
        ...row,
        seqs: seqsText(rest),
        waiting,
        ...(waiting === 0 ? settled : {}),
      });
    for (const [to, seqs] of moved) this.#arrive(row, to, seqs, change(row));
  }

  /** Into a new row, or into the row that the message has there. */
  #arrive(from: OutboxRow, destination: string, seqs: readonly number[], change: Partial<OutboxRow>): void {
    const there = this.#after.get(destination);
    const moved = { ...from, ...change, destination };
    if (there === undefined) {
      const fresh = { seqs: seqsText(seqs), waiting: seqs.length, bounced: 0, owner: null };
      this.#after.set(destination, { ...moved, ...fresh });
      return;
    }
    const joined = {
      ...there,
      seqs: seqsText([...seqs, ...seqsOf(parseRuns(there.seqs))]),
      waiting: there.waiting + seqs.length,
      delayNotified: Math.max(there.delayNotified, from.delayNotified),
    };
    // Another node is sending that row: recipients that its result does not name will go on waiting.
    if (there.state !== 'SENDING') Object.assign(joined, change, together(there, moved));
    this.#after.set(destination, joined);
  }

  /** What was there before, and is not or is different now; and what is there instead. */
  get changed(): { old: OutboxRow[]; now: OutboxRow[] } {
    const differs = (row: OutboxRow): boolean => this.#before.get(row.destination) !== row;
    return {
      old: [...this.#before.values()].filter((row) => this.#after.get(row.destination) !== row),
      now: [...this.#after.values()].filter(differs),
    };
  }

  /** By how many the rows have grown that are not settled. */
  get opened(): number {
    const open = (rows: ReadonlyMap<string, OutboxRow>): number =>
      [...rows.values()].filter((row) => !isSettled(row)).length;
    return open(this.#after) - open(this.#before);
  }

  /** Whether a row among them is over, and has recipients that bounced. */
  get failed(): boolean {
    return [...this.#after.values()].some(({ state }) => state === 'DEAD');
  }

  get changes(): Map<string, number> {
    const { old, now } = this.changed;
    return changesOf(old, now);
  }
}

/** By how many the rows that wait for a time have grown or shrunk at each destination concerned. */
export function changesOf(old: readonly OutboxRow[], now: readonly OutboxRow[]): Map<string, number> {
  const changes = new Map<string, number>();
  const count = (rows: readonly OutboxRow[], by: number): void => {
    for (const row of rows)
      changes.set(row.destination, (changes.get(row.destination) ?? 0) + (isDue(row) ? by : 0));
  };
  count(old, -1);
  count(now, 1);
  return changes;
}

/** If either was held, the result is held; else it has the earlier due time and the greater number of attempts. */
function together(there: OutboxRow, moved: OutboxRow): Partial<OutboxRow> {
  const open = isWaiting(there);
  const held = moved.state === 'HELD' || there.state === 'HELD';
  const dueAt = Math.min(moved.dueAt ?? Infinity, (open ? there.dueAt : null) ?? Infinity);
  return {
    state: held ? 'HELD' : open && there.state === 'RETRY' ? 'RETRY' : moved.state,
    dueAt: held ? null : dueAt,
    attempts: Math.max(there.attempts, moved.attempts),
    fence: Math.max(there.fence, moved.fence),
    deaths: Math.max(there.deaths, moved.deaths),
  };
}

/** The waiting ones among recipients of a row that get another key, by that. @param keyOf may answer the present one. */
export function movedOf(
  { destination }: OutboxRow,
  recipients: Iterable<MovedRecipient>,
  keyOf: (recipient: MovedRecipient) => string,
): Map<string, number[]> {
  const moved = new Map<string, number[]>();
  for (const recipient of recipients) {
    if (recipient.status !== 'waiting') continue;
    const key = keyOf(recipient);
    if (key === destination) continue;
    const seqs = moved.get(key);
    if (seqs) seqs.push(recipient.seq);
    else moved.set(key, [recipient.seq]);
  }
  return moved;
}

/** The key that a move gives to all recipients of a row; null where each has its own. */
export function keyForAll(move: Move, destination: string): string | null {
  return 'fail' in move ? failKey(destination) : move.reroute;
}

/** The key that a recipient has by the config. */
export const configuredKey = (domain: string, routes: RouteTable): string =>
  destinationOf(domainKey(domain), routes);

/** What an operator's move makes of a row. Held rows stay held, unless they end. */
export function changeOf(move: Move, nowMs: number): Change {
  if ('fail' in move)
    return () => ({
      state: 'PENDING',
      dueAt: nowMs,
      reason: FAILED_BY_OPERATOR,
      detail: move.fail,
      operatorText: move.fail,
    });
  return ({ state }) => (state === 'HELD' ? {} : { dueAt: nowMs });
}

/** Whether all recipients of the row wait: then it moves as it is. */
export const waitsWhole = ({ waiting, seqs }: SelectedRow): boolean =>
  waiting === parseRuns(seqs).reduce((sum, [first, last]) => sum + last - first + 1, 0);

/** By how many the rows that wait have grown, when all of these have moved as they are. @param move not each its own way. */
export function changesTogether(rows: readonly SelectedRow[], move: Move): Map<string, number> {
  const changes = new Map<string, number>();
  const add = (key: string, more: number): void => void changes.set(key, (changes.get(key) ?? 0) + more);
  for (const { destination, state } of rows) {
    if (state !== 'HELD') add(destination, -1);
    if (state !== 'HELD' || 'fail' in move) add(keyForAll(move, destination) as string, 1);
  }
  return changes;
}
