/** Operators' actions on rows. Rows being sent are left alone: a delivery thread decides their fate. */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { steadyMs } from '../../base/steady.ts';
import type { RouteTable } from '../../mail/destination.ts';
import { type ActionName, type Move, nameOf } from '../../mail/operator-action.ts';
import { HELD_BY_RULE, MAX_RELEASED } from '../../mail/rule-hold.ts';
import { meansRecipients } from '../../mail/selection.ts';
import type { Band } from '../bands.ts';
import type { OperateAction, Selection } from '../database.ts';
import { waitsWhole } from '../moving.ts';
import { concernedBy, HELD_UNREAD, UNREAD } from '../outbox-rows.ts';
import { Pace } from '../pace.ts';
import { Removals } from '../removals.ts';
import {
  deletable,
  isWhole,
  type SelectedRow,
  type SelectedRows,
  selectPart,
  selectRows,
} from '../select-rows.ts';
import { parseRuns, runsOf } from '../seq-runs.ts';
import { type OperateSlice, operatedSlice } from '../slices.ts';
import { answered, DIALECT } from './dialect.ts';
import { MAIL_FACTS, type MailEraser, type MailFacts } from './erase.ts';
import { Mover } from './move.ts';

/** What an action sets in rows; values are `now`, where there is one. */
const SET: Readonly<Record<Exclude<OperateAction, 'delete' | Move>, string>> = {
  flush: 'due_at = ?',
  hold: `state = 'HELD', due_at = nullif(?, ?), reason = iif(reason = '${UNREAD}', '${HELD_UNREAD}', reason)`,
  release: `state = 'PENDING', due_at = ?, deaths = 0,
    operator_text = iif(reason = '${HELD_BY_RULE}', substr(trim(detail || ', ' || operator_text, ', '), 1, ${MAX_RELEASED}), operator_text)`,
};

interface Said {
  reversePath: string;
  messageId: string;
}

/** What is read of many at once comes as arrays, which cost a third of what objects do. */
type Waiting = [id: string, seq: number, address: string];
type MailSaid = MailFacts & Said;
type MailValues = [
  id: string,
  sizeBytes: number,
  object: string | null,
  contentAt: number,
  contentParts: number,
  attachments: number,
  headers: number,
  reversePath: string,
  messageId: string,
];

const mailOf = (values: MailValues): MailSaid => ({
  id: values[0],
  sizeBytes: values[1],
  object: values[2],
  contentAt: values[3],
  contentParts: values[4],
  attachments: values[5],
  headers: values[6],
  reversePath: values[7],
  messageId: values[8],
});

/** @param rows in order of queue id. */
const countOfIds = (rows: readonly SelectedRow[]): number =>
  rows.reduce((count, { id }, i) => (id === rows[i - 1]?.id ? count : count + 1), 0);

export class Operator {
  readonly #db: DatabaseSync;
  readonly #eraser: MailEraser;
  readonly #mover: Mover;
  readonly #routes: RouteTable;
  readonly #paces = new Map<ActionName, Pace>();
  readonly #waitingOf: StatementSync;
  readonly #removeRecipients: StatementSync;
  readonly #shrinkRow: StatementSync;
  readonly #failRow: StatementSync;
  readonly #deleteRow: StatementSync;
  readonly #closeRow: StatementSync;
  readonly #settled: StatementSync;
  readonly #mail: StatementSync;
  readonly #said: StatementSync;
  readonly #rowsLeft: StatementSync;
  readonly #rowsIn: StatementSync;
  readonly #mailsIn: StatementSync;
  readonly #waitingIn: StatementSync;

  /** @param routes the config's, for mail that is put back. */
  constructor(db: DatabaseSync, eraser: MailEraser, routes: RouteTable) {
    this.#db = db;
    this.#eraser = eraser;
    this.#mover = new Mover(db);
    this.#routes = routes;
    this.#waitingOf = db.prepare(
      "SELECT address FROM mail_recipients WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'",
    );
    this.#removeRecipients = db.prepare(
      "UPDATE mail_recipients SET status = 'removed' WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'",
    );
    this.#shrinkRow = db.prepare(
      'UPDATE mail_outbox SET waiting = waiting - ? WHERE mail_id = ? AND destination = ?',
    );
    this.#failRow = db.prepare(
      "UPDATE mail_outbox SET state = 'DEAD', due_at = NULL, waiting = 0 WHERE mail_id = ? AND destination = ?",
    );
    this.#deleteRow = db.prepare('DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?');
    this.#closeRow = db.prepare('UPDATE mails SET open_rows = open_rows - 1, dead = dead | ? WHERE id = ?');
    this.#settled = db.prepare(
      'UPDATE mails SET settled_at = ? WHERE id = ? AND open_rows = 0 AND settled_at IS NULL',
    );
    this.#mail = db.prepare(`SELECT ${MAIL_FACTS} FROM mails m WHERE id = ?`);
    this.#said = db.prepare(
      'SELECT reverse_path AS reversePath, message_id AS messageId FROM mails WHERE id = ?',
    );
    this.#rowsLeft = db.prepare('SELECT 1 FROM mail_outbox WHERE mail_id = ? LIMIT 1');
    this.#rowsIn = db.prepare('SELECT count(*) AS n FROM mail_outbox WHERE mail_id > ? AND mail_id <= ?');
    this.#mailsIn = db.prepare(
      `SELECT ${MAIL_FACTS}, m.reverse_path AS reversePath, m.message_id AS messageId FROM mails m
       WHERE id > ? AND id <= ? ORDER BY id`,
    );
    this.#mailsIn.setReturnArrays(true);
    this.#waitingIn = db.prepare(
      `SELECT mail_id AS id, seq, address FROM mail_recipients
       WHERE mail_id > ? AND mail_id <= ? AND status = 'waiting' ORDER BY mail_id, seq`,
    );
    this.#waitingIn.setReturnArrays(true);
  }

  /** One bounded transaction of the action, on messages after `after`. */
  slice(
    action: OperateAction,
    selection: Selection,
    nowMs: number,
    after: string,
    within: Band | null,
  ): OperateSlice {
    const meant = concernedBy(action, selection);
    const pace = this.#paceOf(nameOf(action));
    const began = steadyMs();
    // Messages are deleted whole, and where recipients are looked at, there are the more of them the longer a band is.
    const inBands = action !== 'delete' && meant.ids === undefined && !meansRecipients(meant);
    const asking = inBands
      ? selectPart(meant, DIALECT, after, within, pace.rows)
      : selectRows(meant, DIALECT, after, pace.rows);
    const found = answered(this.#db, asking);
    const removed = new Removals();
    let changes: Map<string, number> | undefined;
    if (action === 'delete') found.rows = deletable(found.rows);
    this.#eraser.begin();
    if (found.rows.length > 0)
      this.#transaction(() => {
        if (typeof action === 'object') changes = this.#move(action, found, nowMs);
        else if (action === 'delete') this.#deleteAll(found, nowMs, removed);
        else this.#set(action, found, nowMs);
      });
    if (found.next !== null) pace.took(steadyMs() - began);
    return operatedSlice(action, found, selection.ids !== undefined, removed, changes);
  }

  #paceOf(name: ActionName): Pace {
    const pace = this.#paces.get(name) ?? new Pace();
    this.#paces.set(name, pace);
    return pace;
  }

  /**
   * Rows whose recipients would join one that is being sent are left: their state becomes SENDING.
   * @returns by how many the rows that wait have grown.
   */
  #move(action: Move, { rows, condition }: SelectedRows, nowMs: number): Map<string, number> {
    const left = rows.filter(({ state }) => state !== 'SENDING');
    const changes = new Map<string, number>();
    const add = (more: ReadonlyMap<string, number>): void => {
      for (const [key, n] of more) changes.set(key, (changes.get(key) ?? 0) + n);
    };
    const moveEach = (some: readonly SelectedRow[]): void => {
      for (const row of some) {
        const moved = this.#mover.operate(row, action, this.#routes, nowMs);
        if (moved === null) row.state = 'SENDING';
        else add(moved);
      }
    };
    if (condition === null) moveEach(left);
    else {
      // What is left of those that are parted is settled, or stays behind another row: no condition means it.
      moveEach(left.filter((row) => !waitsWhole(row)));
      const whole = left.filter(waitsWhole);
      const together = this.#mover.operateAll(whole, action, condition, nowMs);
      if (together === null) moveEach(whole);
      else add(together);
    }
    return changes;
  }

  #transaction(work: () => void): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  /** All rows with one statement, where a condition says which. */
  #set(action: keyof typeof SET, { rows, condition }: SelectedRows, nowMs: number): void {
    const times = action === 'hold' ? [nowMs, nowMs] : [nowMs];
    const update = `UPDATE mail_outbox AS o SET ${SET[action]} WHERE`;
    if (condition !== null) {
      const change = this.#db.prepare(`${update} ${condition.sql} AND o.state <> 'SENDING'`);
      change.run(...times, ...condition.values);
      return;
    }
    const change = this.#db.prepare(`${update} o.mail_id = ? AND o.destination = ?`);
    for (const { state, id, destination } of rows)
      if (state !== 'SENDING') change.run(...times, id, destination);
  }

  #deleteAll({ rows, range }: SelectedRows, nowMs: number, removed: Removals): void {
    if (range !== null && this.#deleteRange(rows, range, removed)) return;
    for (const row of rows) if (row.state !== 'SENDING') this.#delete(row, nowMs, removed);
  }

  /** Deletes all messages of a range with a few statements. @returns false when some row of them is not meant, or is sent. */
  #deleteRange(rows: readonly SelectedRow[], range: [string, string], removed: Removals): boolean {
    const there = this.#rowsIn.get(...range)?.n as number;
    if (rows.length < there || rows.some(({ state }) => state === 'SENDING')) return false;
    const mails = (this.#mailsIn.all(...range) as unknown as MailValues[]).map(mailOf);
    if (countOfIds(rows) < mails.length) return false;
    const waiting = this.#waitingIn.all(...range) as unknown as Waiting[];
    // All three are in order of queue id: they are gone through side by side.
    let [first, mail] = [0, 0];
    for (const { id, destination, seqs } of rows) {
      while ((mails[mail] as MailSaid).id < id) mail++;
      while (first < waiting.length && (waiting[first] as Waiting)[0] < id) first++;
      const runs = parseRuns(seqs);
      const recipients: string[] = [];
      for (let at = first; at < waiting.length && waiting[at]?.[0] === id; at++) {
        const [, seq, address] = waiting[at] as Waiting;
        if (runs.some(([from, to]) => from <= seq && seq <= to)) recipients.push(address);
      }
      const { reversePath, messageId } = mails[mail] as MailSaid;
      removed.addWhole({ queueId: id, destination, reversePath, messageId, recipients });
    }
    this.#eraser.eraseRange(mails, ...range);
    return true;
  }

  #delete(row: SelectedRow, nowMs: number, removed: Removals): void {
    if (!removed.knows(row.id)) removed.tell(row.id, this.#said.get(row.id) as unknown as Said);
    if (row.some === null || (isWhole(row) && row.bounced === 0)) this.#remove(row, nowMs, removed);
    else
      this.#removeSome(
        row,
        row.some.map(({ seq }) => seq),
        nowMs,
        removed,
      );
  }

  /** Removes recipients who wait. The row stays with the others, or with those who bounced. */
  #removeSome(row: SelectedRow, seqs: number[], nowMs: number, removed: Removals): void {
    let count = 0;
    for (const [first, last] of runsOf(seqs)) {
      removed.add(row.id, row.destination, this.#addressesOf(row.id, first, last));
      count += Number(this.#removeRecipients.run(row.id, first, last).changes);
    }
    if (count < row.waiting) this.#shrinkRow.run(count, row.id, row.destination);
    else {
      this.#failRow.run(row.id, row.destination);
      this.#close(row.id, true, nowMs);
    }
  }

  #addressesOf(id: string, first: number, last: number): string[] {
    return this.#waitingOf.all(id, first, last).map((found) => found.address as string);
  }

  #remove(row: SelectedRow, nowMs: number, removed: Removals): void {
    this.#deleteRow.run(row.id, row.destination);
    // The mail is erased with its last row; rows that are being sent or kept for inspection keep it.
    const isLast = this.#rowsLeft.get(row.id) === undefined;
    for (const [first, last] of parseRuns(row.seqs)) {
      const waiting = this.#addressesOf(row.id, first, last);
      if (waiting.length === 0) continue;
      if (!isLast) this.#removeRecipients.run(row.id, first, last);
      removed.add(row.id, row.destination, waiting);
    }
    // A row that is erased at once needs no last state.
    if (isLast) this.#eraser.erase(this.#mail.get(row.id) as unknown as MailFacts);
    else if (row.state !== 'DEAD' && row.state !== 'SENT') this.#close(row.id, false, nowMs);
  }

  #close(id: string, bounced: boolean, nowMs: number): void {
    this.#closeRow.run(bounced ? 1 : 0, id);
    this.#settled.run(nowMs, id);
  }
}
