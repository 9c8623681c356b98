/** Rows of the outbox as every engine writes, reads and chooses them. */
import type { OperateAction, Settlement } from './database.ts';

/** Columns of a QueueRow, of `mail_outbox o` and `mails m`. */
export const QUEUE_ROW = `o.mail_id AS queueId, o.destination, o.state, o.attempts, coalesce(o.due_at, 0) AS nextAttemptMs,
  m.reverse_path AS reversePath, m.size_bytes AS sizeBytes, m.received_at AS receivedAtMs, o.waiting, o.reason, o.detail`;

/** Why a row is set aside that was out alone when the process died (mail/suspicion.ts). */
export const SUSPECTED_POISON = 'suspected-poison';
export const POISON_DETAIL = 'the relay died twice while it was being sent; "queue release" lets it go on';

/** States of rows an operator's action is for. Those being sent are only counted. */
export const STATES_OF: Readonly<Record<OperateAction, string>> = {
  retry: "('PENDING','RETRY')",
  hold: "('PENDING','RETRY','SENDING')",
  release: "('HELD')",
  delete: "('PENDING','RETRY','HELD','DEAD','SENT','SENDING')",
};

/** Why a row waits, or is held, whose content could not be read; one that an operator holds has another reason. */
export const UNREAD = 'content-unavailable';
export const HELD_UNREAD = 'held-by-operator';
/** Rows looked at in one step for those whose content could not be read: few among many, without an index. */
export const UNREAD_SCAN_ROWS = 5000;

/** Of the rows looked at: those the action is for, whose content could not be read, and that are not due anyway. */
export function unreadOf(action: OperateAction, rows: readonly ScannedRow[], nowMs: number): ScannedRow[] {
  return rows.filter(
    ({ state, reason, dueAt }) =>
      reason === UNREAD && STATES_OF[action].includes(`'${state}'`) && (dueAt === null || dueAt > nowMs),
  );
}

export interface ScannedRow extends OperatedRow {
  reason: string;
  dueAt: number | null;
}

/** What an operator's action needs to know of a row. */
export interface OperatedRow {
  id: string;
  destination: string;
  state: string;
  seqs: string;
}

/**
 * What a settlement makes of its row: state, due_at, attempts, waiting, bounced, delay_notified, reason, detail, and
 * the row's key.
 */
export function settledRow(
  settlement: Settlement,
  waiting: number,
  bounced: number,
  nowMs: number,
): (string | number | null)[] {
  const { groups, retryAtMs, attempts, delayNotified, queueId, destination } = settlement;
  // The group that says most of why the row is as it is: what still waits, else what bounced.
  const said =
    groups.find((g) => g.kind === 'deferred') ?? groups.find((g) => g.kind === 'bounced') ?? groups[0];
  return [
    waiting > 0 ? 'RETRY' : bounced > 0 ? 'DEAD' : 'SENT',
    waiting > 0 ? (retryAtMs ?? nowMs) : null,
    attempts,
    waiting,
    bounced,
    delayNotified ? 1 : 0,
    said?.reason ?? '',
    said?.detail ?? '',
    queueId,
    destination,
  ];
}
