/** Rows of the outbox as every engine writes, reads and chooses them. */
import type { OperateAction, RowsTarget, ScannedTarget, Settlement } from './database.ts';

/** Columns of a QueueRow, of `mail_outbox o` and `mails m`. */
export const QUEUE_ROW = `o.mail_id AS queueId, o.destination, o.state, o.attempts, coalesce(o.due_at, 0) AS nextAttemptMs,
  m.reverse_path AS reversePath, m.size_bytes AS sizeBytes, m.received_at AS receivedAtMs, o.waiting, o.reason, o.detail`;

/**
 * The reason of a row that was set aside because the process died while it was being sent alone (mail/suspicion.ts).
 */
export const SUSPECTED_POISON = 'suspected_poison';
export const POISON_DETAIL = 'the relay died twice while it was being sent; "queue release" lets it go on';

/** The states of rows that each action looks at. Rows being sent are counted, but not changed. */
export const STATES_OF: Readonly<Record<OperateAction, string>> = {
  flush: "('PENDING','RETRY')",
  hold: "('PENDING','RETRY','SENDING')",
  release: "('HELD')",
  delete: "('PENDING','RETRY','HELD','DEAD','SENT','SENDING')",
};

/** Reason of a row that waits, or is held, because its content could not be read; HELD_UNREAD once an operator holds it. */
export const UNREAD = 'content_unavailable';
export const HELD_UNREAD = 'held_by_operator';
/** Reason of a row that waits because a rule of an operator holds recipients of it. */
const SUSPENDED = 'suspended';
/** How many rows one step searches for those that wait for such a reason: these are few, and have no index. */
export const SCAN_ROWS = 5000;

export const isScanned = (target: RowsTarget): target is ScannedTarget =>
  target === 'unread' || (typeof target === 'object' && 'suspendedBy' in target);

/** The rows among these that the action is for: they wait for that reason, and are not due anyway. */
export function scannedFor(
  target: ScannedTarget,
  action: OperateAction,
  rows: readonly ScannedRow[],
  nowMs: number,
): ScannedRow[] {
  const isMeant = target === 'unread' ? isUnread : suspendedBy(target.suspendedBy);
  return rows.filter(
    (row) =>
      isMeant(row) &&
      STATES_OF[action].includes(`'${row.state}'`) &&
      (row.dueAt === null || row.dueAt > nowMs),
  );
}

const isUnread = ({ reason }: ScannedRow): boolean => reason === UNREAD;

/** A row says in its detail which rule it waits for (mail/suspension.ts). */
function suspendedBy(ids: readonly string[]): (row: ScannedRow) => boolean {
  const rules = new Set(ids);
  return ({ reason, detail }) => reason === SUSPENDED && rules.has(detail.split(/[ :]/, 2)[1] ?? '');
}

export interface ScannedRow extends OperatedRow {
  reason: string;
  detail: string;
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
