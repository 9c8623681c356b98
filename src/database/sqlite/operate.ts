/** The operator's hand on rows. Rows being sent are left alone: their fate is with a delivery thread. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { OperateAction, OperateTarget } from '../database.ts';
import { type OperatedRow, STATES_OF } from '../outbox-rows.ts';
import { parseRuns } from '../seq-runs.ts';
import type { OperateSlice } from '../slices.ts';
import type { MailEraser, MailFacts } from './erase.ts';

/** Rows changed in one transaction: new mail waits some 12 ms. */
const SLICE_ROWS = 1000;

export class Operator {
  readonly #db: DatabaseSync;
  readonly #eraser: MailEraser;
  readonly #select = new Map<OperateAction, StatementSync>();
  readonly #change: Record<Exclude<OperateAction, 'delete'>, StatementSync>;
  readonly #waitingOf: StatementSync;
  readonly #removeRecipients: StatementSync;
  readonly #deleteRow: StatementSync;
  readonly #closeRow: StatementSync;
  readonly #settled: StatementSync;
  readonly #mail: StatementSync;
  readonly #rowsLeft: StatementSync;

  constructor(db: DatabaseSync, eraser: MailEraser) {
    this.#db = db;
    this.#eraser = eraser;
    for (const action of Object.keys(STATES_OF) as OperateAction[])
      this.#select.set(
        action,
        db.prepare(
          `SELECT mail_id AS id, destination, state, seqs FROM mail_outbox
           WHERE (mail_id, destination) > ($id, $from) AND mail_id <= $until AND state IN ${STATES_OF[action]}
             AND ($destination IS NULL OR destination = $destination)
           ORDER BY mail_id, destination LIMIT ${SLICE_ROWS}`,
        ),
      );
    const where = 'WHERE mail_id = $id AND destination = $destination';
    this.#change = {
      retry: db.prepare(`UPDATE mail_outbox SET due_at = $now ${where}`),
      hold: db.prepare(`UPDATE mail_outbox SET state = 'HELD', due_at = NULL ${where} AND $now = $now`),
      release: db.prepare(`UPDATE mail_outbox SET state = 'PENDING', due_at = $now, deaths = 0 ${where}`),
    };
    this.#waitingOf = db.prepare(
      "SELECT address FROM mail_recipients WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'",
    );
    this.#removeRecipients = db.prepare(
      "UPDATE mail_recipients SET status = 'removed' WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'",
    );
    this.#deleteRow = db.prepare('DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?');
    this.#closeRow = db.prepare('UPDATE mails SET open_rows = open_rows - 1 WHERE id = ?');
    this.#settled = db.prepare(
      'UPDATE mails SET settled_at = ? WHERE id = ? AND open_rows = 0 AND settled_at IS NULL',
    );
    this.#mail = db.prepare(
      `SELECT id, size_bytes AS sizeBytes, object, content_at AS contentAt, content_parts AS contentParts, attachments
       FROM mails WHERE id = ?`,
    );
    this.#rowsLeft = db.prepare('SELECT 1 FROM mail_outbox WHERE mail_id = ? LIMIT 1');
  }

  /** One bounded transaction of the action. */
  slice(
    action: OperateAction,
    target: OperateTarget,
    nowMs: number,
    after: OperateSlice['next'],
  ): OperateSlice {
    const queueId = typeof target === 'object' && 'queueId' in target ? target.queueId : null;
    const destination = typeof target === 'object' && 'destination' in target ? target.destination : null;
    const rows = this.#select.get(action)?.all({
      id: after?.queueId ?? queueId ?? '',
      from: after?.destination ?? '',
      until: queueId ?? '~',
      destination,
    }) as unknown as OperatedRow[];
    const removed = new Map<string, string[]>();
    const destinations = new Set<string>();
    this.#eraser.begin();
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const row of rows) {
        destinations.add(row.destination);
        if (action === 'delete') this.#remove(row, nowMs, removed);
        else this.#change[action].run({ id: row.id, destination: row.destination, now: nowMs });
      }
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
    const last = rows.at(-1);
    return {
      rows: rows.length,
      destinations: [...destinations],
      removed: [...removed].map(([id, recipients]) => ({ queueId: id, recipients })),
      next:
        last !== undefined && rows.length === SLICE_ROWS
          ? { queueId: last.id, destination: last.destination }
          : null,
    };
  }

  #remove(row: OperatedRow, nowMs: number, removed: Map<string, string[]>): void {
    for (const [first, last] of parseRuns(row.seqs)) {
      const waiting = this.#waitingOf.all(row.id, first, last).map((found) => found.address as string);
      if (waiting.length === 0) continue;
      this.#removeRecipients.run(row.id, first, last);
      removed.set(row.id, (removed.get(row.id) ?? []).concat(waiting));
    }
    this.#deleteRow.run(row.id, row.destination);
    if (row.state !== 'DEAD' && row.state !== 'SENT') {
      this.#closeRow.run(row.id);
      this.#settled.run(nowMs, row.id);
    }
    // The mail goes with its last row; other rows (being sent, or kept for inspection) keep it.
    if (this.#rowsLeft.get(row.id) === undefined)
      this.#eraser.erase(this.#mail.get(row.id) as unknown as MailFacts);
  }
}
