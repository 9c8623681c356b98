/** Rows of the outbox as every engine writes, reads and chooses them. */
import { type ActionName, type Move, nameOf } from '../mail/operator-action.ts';
import { failKey, shownDestination } from '../mail/operator-keys.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import { HELD_BY_RULE, MAX_RELEASED } from '../mail/rule-hold.ts';
import type { OperateAction, Selection, SettleGroup, Settlement } from './database.ts';

/** Columns of a QueueRow, of `mail_outbox o` and `mails m`. */
export const QUEUE_ROW = `o.mail_id AS queueId, o.destination, o.state, o.attempts, coalesce(o.due_at, 0) AS nextAttemptMs,
  m.reverse_path AS reversePath, m.size_bytes AS sizeBytes, m.received_at AS receivedAtMs, m.message_id AS messageId,
  m.auth_user AS user, m.listener, o.waiting, o.reason, o.detail, m.attributes`;

/** Column of a line, of `mail_outbox o` and `mails m`. Both engines know JSON_ARRAY, and would else say that it is no text. */
export const QUEUE_LINE = `CAST(JSON_ARRAY(o.mail_id, o.destination, o.state, o.attempts, coalesce(o.due_at, 0), m.reverse_path,
  m.size_bytes, m.received_at, m.message_id, m.auth_user, m.listener, o.waiting, o.reason, o.detail, m.attributes) AS CHAR) AS line`;

/** A row as operators see it. */
export const shownRow = <Row extends QueueRow>(row: Row): Row => ({
  ...row,
  destination: shownDestination(row.destination),
});

/**
 * The reason of a row that was set aside because the process died while it was being sent alone (mail/suspicion.ts).
 */
export const SUSPECTED_POISON = 'suspected_poison';
export const POISON_DETAIL = 'the relay died twice while it was being sent; "queue release" lets it go on';

/** The states of rows that each action looks at. Rows being sent are counted, but not changed. */
const STATES_OF: Readonly<Record<ActionName, readonly OutboxState[]>> = {
  flush: ['PENDING', 'RETRY'],
  hold: ['PENDING', 'RETRY', 'SENDING'],
  release: ['HELD'],
  delete: ['PENDING', 'RETRY', 'HELD', 'DEAD', 'SENT', 'SENDING'],
  fail: ['PENDING', 'RETRY', 'HELD', 'SENDING'],
  reroute: ['PENDING', 'RETRY', 'HELD', 'SENDING'],
};

/** What a move is for among all that waits. Mail that ends is out of reach. */
export function movableBy(move: Move): Pick<Selection, 'notDestinations' | 'rerouted'> {
  if ('reroute' in move && move.reroute === null) return { rerouted: true };
  const there = 'fail' in move ? [] : [move.reroute as string];
  return { notDestinations: [`${failKey('')}*`, ...there] };
}

/** What an action looks at of a selection. */
export function concernedBy(action: OperateAction, selection: Selection): Selection {
  const states = STATES_OF[nameOf(action)].filter((state) => selection.states?.includes(state) ?? true);
  return { ...selection, states, ...(typeof action === 'string' ? {} : movableBy(action)) };
}

/** Reason of a row that waits, or is held, because its content could not be read; HELD_UNREAD once an operator holds it. */
export const UNREAD = 'content_unavailable';
export const HELD_UNREAD = 'held_by_operator';
/** Rows that were put off, or are held, because their content could not be read. */
export const unread = (nowMs: number): Selection => ({ reasons: [UNREAD], notDueAtMs: nowMs });

/** What an operator's action needs to know of a row. */
export interface OperatedRow {
  id: string;
  destination: string;
  state: OutboxState;
  seqs: string;
}

/**
 * The new values of a settled row: state, due_at, attempts, waiting, bounced, delay_notified, reason, detail; then its
 * key.
 */
export function settledRow(
  settlement: Settlement,
  waiting: number,
  bounced: number,
  nowMs: number,
): (string | number | null)[] {
  const { groups, retryAtMs, attempts, delayNotified, queueId, destination } = settlement;
  // The group that best explains the row: one that still waits, else one that bounced.
  const said =
    groups.find((g) => g.kind === 'deferred' && g.reason !== HELD_BY_RULE) ??
    groups.find((g) => g.kind === 'deferred') ??
    groups.find((g) => g.kind === 'bounced') ??
    groups[0];
  const held = waiting > 0 && retryAtMs === null ? heldBy(groups) : null;
  return [
    held !== null ? 'HELD' : waiting > 0 ? 'RETRY' : bounced > 0 ? 'DEAD' : 'SENT',
    waiting > 0 && held === null ? (retryAtMs ?? nowMs) : null,
    attempts,
    waiting,
    bounced,
    delayNotified ? 1 : 0,
    said?.reason ?? '',
    held ?? said?.detail ?? '',
    queueId,
    destination,
  ];
}

/** The rules that hold all recipients of a row who wait; null: others wait for something else. */
function heldBy(groups: readonly SettleGroup[]): string | null {
  const waiting = groups.filter(({ kind }) => kind === 'deferred');
  if (waiting.length === 0 || waiting.some(({ reason }) => reason !== HELD_BY_RULE)) return null;
  return [...new Set(waiting.map(({ detail }) => detail))].join(', ').slice(0, MAX_RELEASED);
}
