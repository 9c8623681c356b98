/** Writes what src/database/moving.ts works out. Every method is to be called within a transaction. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { RouteTable } from '../../mail/destination.ts';
import type { Move } from '../../mail/operator-action.ts';
import { failKey } from '../../mail/operator-keys.ts';
import { FAILED_BY_OPERATOR } from '../../mail/outcome.ts';
import {
  changeOf,
  changesOf,
  changesTogether,
  configuredKey,
  keyForAll,
  type MovedRecipient,
  MovingRows,
  movedOf,
  OUTBOX_COLUMNS,
  OUTBOX_ROW,
  type OutboxRow,
  outboxValues,
} from '../moving.ts';
import type { SelectedRow } from '../select-rows.ts';
import type { Condition } from '../selection.ts';
import { parseRuns, seqsOf } from '../seq-runs.ts';

const FAIL_SET =
  "destination = ? || o.destination, state = 'PENDING', due_at = ?, reason = ?, detail = ?, operator_text = ?";
const REROUTE_SET = "destination = ?, due_at = iif(o.state = 'HELD', o.due_at, ?)";

export class Mover {
  readonly #db: DatabaseSync;
  readonly #row: StatementSync;
  readonly #rename: StatementSync;
  readonly #recipients: StatementSync;
  readonly #delete: StatementSync;
  readonly #insert: StatementSync;
  readonly #mail: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#row = db.prepare(`SELECT ${OUTBOX_ROW} FROM mail_outbox WHERE mail_id = ? AND destination = ?`);
    this.#rename = db.prepare(
      `UPDATE OR IGNORE mail_outbox SET destination = ?, state = ?, due_at = ?, reason = ?, detail = ?, operator_text = ?
       WHERE mail_id = ? AND destination = ?`,
    );
    this.#recipients = db.prepare(
      'SELECT seq, domain, status FROM mail_recipients WHERE mail_id = ? AND seq BETWEEN ? AND ?',
    );
    this.#delete = db.prepare('DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?');
    this.#insert = db.prepare(
      `INSERT INTO mail_outbox (${OUTBOX_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
    );
    this.#mail = db.prepare('UPDATE mails SET open_rows = open_rows + ?, dead = dead | ? WHERE id = ?');
  }

  row(id: string, destination: string): OutboxRow | undefined {
    return this.#row.get(id, destination) as unknown as OutboxRow | undefined;
  }

  recipients({ id, seqs }: OutboxRow): MovedRecipient[] {
    return parseRuns(seqs).flatMap(
      ([first, last]) => this.#recipients.all(id, first, last) as unknown as MovedRecipient[],
    );
  }

  /**
   * Does an operator's move of one row, or of some of its recipients.
   * @returns by how many the rows that wait at each destination have grown; null when its recipients would join a row that is
   *   being sent.
   */
  operate(
    { id, destination, some }: SelectedRow,
    move: Move,
    routes: RouteTable,
    nowMs: number,
  ): Map<string, number> | null {
    const row = this.row(id, destination) as OutboxRow;
    const to = keyForAll(move, destination);
    const change = changeOf(move, nowMs);
    const all = seqsOf(parseRuns(row.seqs));
    if (to !== null && some === null && row.waiting === all.length) {
      const renamed = this.#renamed(row, { ...row, ...change(row), destination: to });
      return renamed ?? this.write(row, new Map([[to, all]]), change);
    }
    const keyOf = ({ domain }: MovedRecipient): string => to ?? configuredKey(domain, routes);
    return this.write(row, movedOf(row, some ?? this.recipients(row), keyOf), change);
  }

  /**
   * Does the move of rows, of which all recipients wait, with one statement, where none of their messages has a row at the new
   * destination. @param condition on `o`: means these rows. @returns as `operate`; null: nothing was done.
   */
  operateAll(
    rows: readonly SelectedRow[],
    move: Move,
    condition: Condition,
    nowMs: number,
  ): Map<string, number> | null {
    const to = 'fail' in move ? null : move.reroute;
    if (!('fail' in move) && to === null) return null;
    const set = 'fail' in move ? FAIL_SET : REROUTE_SET;
    const values =
      'fail' in move ? [failKey(''), nowMs, FAILED_BY_OPERATOR, move.fail, move.fail] : [to, nowMs];
    this.#db.exec('SAVEPOINT together');
    const { changes } = this.#db
      .prepare(`UPDATE OR IGNORE mail_outbox AS o SET ${set} WHERE ${condition.sql} AND o.state <> 'SENDING'`)
      .run(...values, ...condition.values);
    if (changes !== rows.length) this.#db.exec('ROLLBACK TO together');
    this.#db.exec('RELEASE together');
    return changes === rows.length ? changesTogether(rows, move) : null;
  }

  /** Nearly always the message has no row at the new destination: then the row is that. null: it has one. */
  #renamed(row: OutboxRow, now: OutboxRow): Map<string, number> | null {
    const { destination, state, dueAt, reason, detail, operatorText } = now;
    const { changes } = this.#rename.run(
      destination,
      state,
      dueAt,
      reason,
      detail,
      operatorText,
      row.id,
      row.destination,
    );
    return changes === 0 ? null : changesOf([row], [now]);
  }

  /** Moves recipients of a row; the result is that of `operate`. */
  write(
    row: OutboxRow,
    moved: ReadonlyMap<string, readonly number[]>,
    change?: Parameters<MovingRows['move']>[2],
  ): Map<string, number> | null {
    const there: OutboxRow[] = [];
    for (const key of moved.keys()) {
      const found = this.row(row.id, key);
      if (found?.state === 'SENDING') return null;
      if (found !== undefined) there.push(found);
    }
    const rows = new MovingRows([row, ...there]);
    rows.move(row.destination, moved, change);
    const { old, now } = rows.changed;
    for (const { id, destination } of old) this.#delete.run(id, destination);
    for (const one of now) this.#insert.run(...outboxValues(one));
    const { opened, failed } = rows;
    if (opened !== 0 || failed) this.#mail.run(opened, failed ? 1 : 0, row.id);
    return rows.changes;
  }
}
