/** Operators' actions on rows. Rows being sent are left alone: a delivery thread decides their fate. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { RouteTable } from '../../mail/destination.ts';
import { type Move, nameOf } from '../../mail/operator-action.ts';
import type { OperateAction, RowsTarget } from '../database.ts';
import { movable, type OutboxRow } from '../moving.ts';
import {
  HELD_UNREAD,
  type OperatedRow,
  type ScannedRow,
  STATES_OF,
  UNREAD,
  UNREAD_SCAN_ROWS,
  unreadOf,
} from '../outbox-rows.ts';
import { parseRuns } from '../seq-runs.ts';
import { type OperateSlice, operatedSlice, type SliceRows, upToLast } from '../slices.ts';
import { MAIL_FACTS, type MailEraser, type MailFacts } from './erase.ts';
import { Mover } from './move.ts';

/**
 * How many rows one transaction changes. New mail waits for it: some 12 ms when the rows lie together, several times
 * that when each has pages of its own, as rows of deleted mails mostly have.
 */
const sliceRows = (action: OperateAction): number => (isHeavy(action) ? 250 : 1000);
const ANY = { where: 'TRUE', values: [] };
const isHeavy = (action: OperateAction): boolean => action === 'delete' || typeof action === 'object';

export class Operator {
  readonly #db: DatabaseSync;
  readonly #eraser: MailEraser;
  readonly #mover: Mover;
  readonly #routes: RouteTable;
  /** Statements that find rows, by their text. */
  readonly #selects = new Map<string, StatementSync>();
  readonly #scan: StatementSync;
  readonly #change: Record<Exclude<OperateAction, 'delete' | Move>, StatementSync>;
  readonly #waitingOf: StatementSync;
  readonly #removeRecipients: StatementSync;
  readonly #deleteRow: StatementSync;
  readonly #closeRow: StatementSync;
  readonly #settled: StatementSync;
  readonly #mail: StatementSync;
  readonly #rowsLeft: StatementSync;

  /** @param routes the config's, for mail that is put back. */
  constructor(db: DatabaseSync, eraser: MailEraser, routes: RouteTable) {
    this.#db = db;
    this.#eraser = eraser;
    this.#routes = routes;
    this.#mover = new Mover(db);
    this.#scan = db.prepare(
      `SELECT mail_id AS id, destination, state, seqs, reason, due_at AS dueAt FROM mail_outbox
       WHERE (mail_id, destination) > (?, ?) ORDER BY mail_id, destination LIMIT ${UNREAD_SCAN_ROWS}`,
    );
    const where = 'WHERE mail_id = $id AND destination = $destination';
    this.#change = {
      flush: db.prepare(`UPDATE mail_outbox SET due_at = $now ${where}`),
      hold: db.prepare(
        `UPDATE mail_outbox SET state = 'HELD', due_at = NULL,
           reason = iif(reason = '${UNREAD}', '${HELD_UNREAD}', reason) ${where} AND $now = $now`,
      ),
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
    this.#mail = db.prepare(`SELECT ${MAIL_FACTS} FROM mails m WHERE id = ?`);
    this.#rowsLeft = db.prepare('SELECT 1 FROM mail_outbox WHERE mail_id = ? LIMIT 1');
  }

  /** One bounded transaction of the action. */
  slice(action: OperateAction, target: RowsTarget, nowMs: number, after: OperateSlice['next']): OperateSlice {
    const isNamed = typeof target === 'object' && 'queueIds' in target;
    const { rows, next } =
      target === 'unread'
        ? this.#unread(action, nowMs, after)
        : upToLast(
            isNamed
              ? this.#rowsOf(action, target.queueIds, after)
              : this.#rowsFrom(action, target === 'all' ? null : target.destination, after),
            sliceRows(action),
          );
    const removed = new Map<string, string[]>();
    const moved = new Map<string, number>();
    this.#eraser.begin();
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const row of rows) {
        if (row.state === 'SENDING') continue;
        if (action === 'delete') this.#remove(row, nowMs, removed);
        else if (typeof action === 'object') this.#move(row, action, nowMs, moved);
        else this.#change[action].run({ id: row.id, destination: row.destination, now: nowMs });
      }
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
    return operatedSlice(
      action,
      rows,
      isNamed,
      removed,
      next,
      typeof action === 'object' ? moved : undefined,
    );
  }

  /** @param changes is told by how many the rows that wait have grown. */
  #move(found: OperatedRow, action: Move, nowMs: number, changes: Map<string, number>): void {
    const row = this.#mover.row(found.id, found.destination) as OutboxRow;
    const moved = this.#mover.operate(row, action, this.#routes, nowMs);
    if (moved === null) found.state = 'SENDING';
    else for (const [key, more] of moved) changes.set(key, (changes.get(key) ?? 0) + more);
  }

  #unread(action: OperateAction, nowMs: number, after: OperateSlice['next']): SliceRows {
    const from = [after?.queueId ?? '', after?.destination ?? ''];
    const { rows, next } = upToLast(this.#scan.all(...from) as unknown as ScannedRow[], UNREAD_SCAN_ROWS);
    return { rows: unreadOf(action, rows, nowMs), next };
  }

  #rowsFrom(action: OperateAction, destination: string | null, after: OperateSlice['next']): OperatedRow[] {
    const where = '(mail_id, destination) > (?, ?) AND (? IS NULL OR destination = ?)';
    const from = [after?.queueId ?? '', after?.destination ?? ''];
    return this.#find(action, where, [...from, destination, destination], sliceRows(action));
  }

  #rowsOf(action: OperateAction, queueIds: readonly string[], after: OperateSlice['next']): OperatedRow[] {
    const rows: OperatedRow[] = [];
    const limit = sliceRows(action);
    for (const id of [...new Set(queueIds)].sort()) {
      if (rows.length === limit) break;
      if (after !== null && id < after.queueId) continue;
      const from = after?.queueId === id ? after.destination : '';
      rows.push(...this.#find(action, 'mail_id = ? AND destination > ?', [id, from], limit - rows.length));
    }
    return rows;
  }

  #find(action: OperateAction, where: string, from: (string | null)[], limit: number): OperatedRow[] {
    const { where: movableRows, values } = typeof action === 'object' ? movable(action) : ANY;
    const sql = `SELECT mail_id AS id, destination, state, seqs FROM mail_outbox
      WHERE ${where} AND state IN ${STATES_OF[nameOf(action)]} AND ${movableRows} ORDER BY mail_id, destination LIMIT ?`;
    let select = this.#selects.get(sql);
    if (select === undefined) {
      select = this.#db.prepare(sql);
      this.#selects.set(sql, select);
    }
    return select.all(...from, ...values, limit) as unknown as OperatedRow[];
  }

  #remove(row: OperatedRow, nowMs: number, removed: Map<string, string[]>): void {
    this.#deleteRow.run(row.id, row.destination);
    // The mail is erased with its last row; rows that are being sent or kept for inspection keep it.
    const isLast = this.#rowsLeft.get(row.id) === undefined;
    for (const [first, last] of parseRuns(row.seqs)) {
      const waiting = this.#waitingOf.all(row.id, first, last).map((found) => found.address as string);
      if (waiting.length === 0) continue;
      if (!isLast) this.#removeRecipients.run(row.id, first, last);
      const addresses = removed.get(row.id);
      if (addresses === undefined) removed.set(row.id, waiting);
      else for (const address of waiting) addresses.push(address);
    }
    // A row that is erased at once needs no last state.
    if (isLast) this.#eraser.erase(this.#mail.get(row.id) as unknown as MailFacts);
    else if (row.state !== 'DEAD' && row.state !== 'SENT') {
      this.#closeRow.run(row.id);
      this.#settled.run(nowMs, row.id);
    }
  }
}
