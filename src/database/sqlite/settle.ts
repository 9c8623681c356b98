/**
 * Writes down the fate of recipients after an attempt (I2, I3). A result whose fencing number is stale changes
 * nothing: somebody else owns the row by now.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { KeepTimes, SettleGroup, Settlement, SuppressionNotes } from '../database.ts';
import { settledRow } from '../outbox-rows.ts';
import { runsOf } from '../seq-runs.ts';
import { MAIL_FACTS, type MailEraser, type MailFacts } from './erase.ts';
import { SqliteSuppressions } from './suppressions.ts';

/** A row that is being sent, and its mail. */
interface RowFacts extends MailFacts {
  waiting: number;
  bounced: number;
  openRows: number;
  dead: number;
}

/** Read as an array, because an object made of a row costs as much as the rest of the statement, for every message. */
const ROW = `SELECT m.size_bytes, m.object, m.content_at, m.content_parts, m.attachments, m.headers, o.waiting, o.bounced,
    m.open_rows, m.dead
  FROM mail_outbox o JOIN mails m ON m.id = o.mail_id
  WHERE o.mail_id = ? AND o.destination = ? AND o.fence = ? AND o.state = 'SENDING'`;
type RowValues = [number, string | null, number, number, number, number, number, number, number, number];

function rowFacts(id: string, values: RowValues): RowFacts {
  const [sizeBytes, object, contentAt, contentParts, attachments, headers, waiting, bounced, openRows, dead] =
    values;
  return {
    id,
    sizeBytes,
    object,
    contentAt,
    contentParts,
    attachments,
    headers,
    waiting,
    bounced,
    openRows,
    dead,
  };
}

export class Settler {
  readonly #eraser: MailEraser;
  readonly suppressions: SqliteSuppressions;
  readonly #keep: KeepTimes;
  readonly #row: StatementSync;
  readonly #mail: StatementSync;
  readonly #recipients: StatementSync;
  readonly #updateRow: StatementSync;
  readonly #closeRow: StatementSync;
  readonly #closeMail: StatementSync;
  readonly #claimed: StatementSync;
  readonly #nodeId: string;

  /** @param options.nodeId the owner of leases written by commits; leases of claims have other owners. */
  constructor(
    db: DatabaseSync,
    eraser: MailEraser,
    options: KeepTimes & { nodeId: string; suppressed?: SuppressionNotes },
  ) {
    this.#eraser = eraser;
    this.suppressions = new SqliteSuppressions(db, options.suppressed ?? null);
    this.#keep = options;
    this.#nodeId = options.nodeId;
    this.#claimed = db.prepare(
      "SELECT 1 FROM mail_outbox WHERE mail_id = ? AND state = 'SENDING' AND lease_owner <> ? LIMIT 1",
    );
    this.#row = db.prepare(ROW);
    this.#row.setReturnArrays(true);
    this.#mail = db.prepare(`SELECT ${MAIL_FACTS} FROM mails m WHERE id = ?`);
    this.#recipients = db.prepare(
      `UPDATE mail_recipients SET status = ?, reason = ?, detail = ?
       WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'`,
    );
    this.#updateRow = db.prepare(
      `UPDATE mail_outbox SET state = ?, due_at = ?, attempts = ?, waiting = ?, bounced = ?, delay_notified = ?,
         lease_owner = NULL, lease_until = NULL, deaths = 0, reason = ?, detail = ? WHERE mail_id = ? AND destination = ?`,
    );
    this.#closeRow = db.prepare('UPDATE mails SET open_rows = open_rows - 1, dead = dead | ? WHERE id = ?');
    this.#closeMail = db.prepare('UPDATE mails SET settled_at = ? WHERE id = ?');
  }

  /** @returns false when the row is not ours to settle any more. */
  settle(settlement: Settlement, nowMs: number): boolean {
    const { queueId, destination, fence } = settlement;
    const values = this.#row.get(queueId, destination, fence) as unknown as RowValues | undefined;
    if (values === undefined) return false;
    const row = rowFacts(queueId, values);
    for (const order of settlement.suppressed ?? []) this.suppressions.order(order);
    // The usual fate: all delivered, and nothing is kept. Whatever we wrote now would be deleted at once.
    if (
      this.#keep.keepDeliveredMs === 0 &&
      row.openRows === 1 &&
      row.dead === 0 &&
      row.bounced === 0 &&
      deliversAll(settlement, row.waiting)
    ) {
      this.#eraser.erase(row);
      return true;
    }
    let waiting = row.waiting;
    let bounced = row.bounced;
    for (const group of settlement.groups) {
      const changed = this.#settleGroup(settlement.queueId, group);
      if (group.kind !== 'deferred') waiting -= changed;
      if (group.kind === 'bounced') bounced += changed;
    }
    this.#updateRow.run(...settledRow(settlement, waiting, bounced, nowMs));
    if (waiting === 0) this.#close(row, bounced > 0, nowMs);
    return true;
  }

  #settleGroup(queueId: string, group: SettleGroup): number {
    const status = group.kind === 'deferred' ? 'waiting' : group.kind;
    let changed = 0;
    for (const [first, last] of runsOf(group.seqs))
      changed += Number(
        this.#recipients.run(status, group.reason, group.detail, queueId, first, last).changes,
      );
    return changed;
  }

  /** The last recipient of a row was settled; with its last open row the mail itself is settled. */
  #close(row: RowFacts, died: boolean, nowMs: number): void {
    const dead = row.dead === 1 || died;
    if (row.openRows > 1) {
      this.#closeRow.run(died ? 1 : 0, row.id);
      return;
    }
    if ((dead ? this.#keep.keepFailedMs : this.#keep.keepDeliveredMs) === 0) {
      this.#eraser.erase(row);
      return;
    }
    this.#closeRow.run(died ? 1 : 0, row.id);
    this.#closeMail.run(nowMs, row.id);
  }

  /**
   * Deletes a message whose session answered 451 while it was being committed.
   * @returns false when a claim has a row of it, which may be on the wire: to be tried again.
   */
  withdraw(queueId: string): boolean {
    if (this.#claimed.get(queueId, this.#nodeId) !== undefined) return false;
    const mail = this.#mail.get(queueId) as unknown as MailFacts | undefined;
    if (mail !== undefined) this.#eraser.erase(mail);
    return true;
  }
}

function deliversAll(settlement: Settlement, waiting: number): boolean {
  let delivered = 0;
  for (const group of settlement.groups) {
    if (group.kind !== 'delivered') return false;
    delivered += group.seqs.length;
  }
  return delivered === waiting;
}
