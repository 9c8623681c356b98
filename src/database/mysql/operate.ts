/** Operators' actions on rows. Rows being sent are left alone: a delivery thread of some node decides their fate. */
import type { Connection } from 'mariadb';
import type { RouteTable } from '../../mail/destination.ts';
import type { Move } from '../../mail/operator-action.ts';
import { HELD_BY_RULE, MAX_RELEASED } from '../../mail/rule-hold.ts';
import type { OperateAction, Selection } from '../database.ts';
import { concernedBy, HELD_UNREAD, UNREAD } from '../outbox-rows.ts';
import { Removals } from '../removals.ts';
import { deletable, type SelectedRows } from '../select-rows.ts';
import { type OperateSlice, operatedSlice } from '../slices.ts';
import { RowsChanged } from './errors.ts';
import { bulk } from './insert.ts';
import { lockSlice } from './lock-rows.ts';
import { moveRows, moveTogether } from './move.ts';
import { deleteRows } from './remove.ts';
import { BY_KEY, type MailFacts } from './sql.ts';

/** What an action sets in rows; values are `now`, where there is one. */
const SET: Readonly<Record<Exclude<OperateAction, 'delete' | Move>, string>> = {
  flush: 'due_at = ?',
  hold: `state = 'HELD', due_at = NULLIF(?, ?), reason = IF(reason = '${UNREAD}', '${HELD_UNREAD}', reason)`,
  release: `state = 'PENDING', due_at = ?, deaths = 0,
    operator_text = IF(reason = '${HELD_BY_RULE}', LEFT(TRIM(TRAILING ', ' FROM CONCAT(detail, ', ', operator_text)), ${MAX_RELEASED}), operator_text)`,
};

export interface SliceOf {
  action: OperateAction;
  selection: Selection;
  nowMs: number;
  after: string;
  /** Rows to look at. */
  most: number;
  /** Rows were others when they were changed together: each by itself. */
  byEntry: boolean;
}

/** One bounded part of the action, on messages after `after`, within the caller's transaction. @throws RowsChanged. */
export async function operateSlice(
  connection: Connection,
  { action, selection, nowMs, after, most, byEntry }: SliceOf,
  routes: RouteTable,
): Promise<{ slice: OperateSlice; erased: MailFacts[] }> {
  const found = await lockSlice(connection, concernedBy(action, selection), after, most);
  const removed = new Removals();
  let erased: MailFacts[] = [];
  let changes: Map<string, number> | undefined;
  if (action === 'delete') {
    found.rows = deletable(found.rows);
    erased = await deleteRows(connection, found, nowMs, removed, byEntry);
  } else if (typeof action === 'object') {
    const together = byEntry ? null : await moveTogether(connection, found, action, nowMs);
    const ours = found.rows.filter(({ state }) => state !== 'SENDING');
    changes = together ?? (await moveRows(connection, ours, action, routes, nowMs));
  } else await setRows(connection, action, found, nowMs, byEntry);
  return { slice: operatedSlice(action, found, selection.ids !== undefined, removed, changes), erased };
}

/** All rows with one statement, where a condition says which. */
async function setRows(
  connection: Connection,
  action: keyof typeof SET,
  { rows, condition }: SelectedRows,
  nowMs: number,
  byEntry: boolean,
): Promise<void> {
  const ours = rows.filter(({ state }) => state !== 'SENDING');
  const times = action === 'hold' ? [nowMs, nowMs] : [nowMs];
  if (byEntry || condition === null)
    await bulk(
      connection,
      `UPDATE mail_outbox SET ${SET[action]} WHERE mail_id = ? AND destination = ?`,
      ours.map(({ id, destination }) => [...times, id, destination]),
    );
  else if (ours.length > 0) {
    // At READ COMMITTED this waits for no row that the condition does not mean: it is judged by its last committed version.
    const { affectedRows } = await connection.query<{ affectedRows: number }>(
      `UPDATE mail_outbox o ${BY_KEY} SET ${SET[action]} WHERE ${condition.sql}`,
      [...times, ...condition.values],
    );
    if (affectedRows !== ours.length) throw new RowsChanged();
  }
}
