/** Operators' actions on rows. Rows being sent are left alone: a delivery thread of some node decides their fate. */

import type { Connection } from 'mariadb';
import type { RouteTable } from '../../mail/destination.ts';
import type { OperateAction, Selection } from '../database.ts';
import {
  type FailedLimits,
  type FailedMark,
  type FailedSlice,
  failedSlice,
  KEPT_FAILED_ROWS,
  later,
  NEWEST,
} from '../kept-failed.ts';
import { concernedBy, HELD_UNREAD, UNREAD } from '../outbox-rows.ts';
import { Removals } from '../removals.ts';
import { deletable, isWhole, type SelectedRow, selectRows } from '../select-rows.ts';
import { parseRuns, runsOf } from '../seq-runs.ts';
import { type OperateSlice, operatedSlice } from '../slices.ts';
import { answered, DIALECT } from './dialect.ts';
import { bulk } from './insert.ts';
import { moveRows } from './move.ts';
import { BY_KEY, eraseMails, MAIL_FACTS, type MailFacts, marks, selectIn } from './sql.ts';

const WHERE = 'WHERE mail_id = ? AND destination = ?';
const CHANGE = {
  flush: `UPDATE mail_outbox SET due_at = ? ${WHERE}`,
  hold: `UPDATE mail_outbox SET state = 'HELD', due_at = NULLIF(?, ?),
    reason = IF(reason = '${UNREAD}', '${HELD_UNREAD}', reason) ${WHERE}`,
  release: `UPDATE mail_outbox SET state = 'PENDING', due_at = ?, deaths = 0 ${WHERE}`,
} as const;

/** One bounded part of the action, on messages after `after`, within the caller's transaction. @param most rows to look at. */
export async function operateSlice(
  connection: Connection,
  action: OperateAction,
  selection: Selection,
  nowMs: number,
  after: string,
  routes: RouteTable,
  most: number,
): Promise<{ slice: OperateSlice; erased: MailFacts[] }> {
  const meant = concernedBy(action, selection);
  const found = await answered(connection, selectRows(meant, DIALECT, after, most));
  if (action === 'delete') found.rows = deletable(found.rows);
  found.rows = await lockRows(connection, found.rows, meant.states ?? []);
  const removed = new Removals();
  let erased: MailFacts[] = [];
  let changes: Map<string, number> | undefined;
  const ours = found.rows.filter(({ state }) => state !== 'SENDING');
  if (action === 'delete') {
    await tellOf(connection, ours, removed);
    erased = await removeRows(connection, ours, nowMs, removed);
  } else if (typeof action === 'object') changes = await moveRows(connection, ours, action, routes, nowMs);
  else {
    const times = action === 'hold' ? [nowMs, nowMs] : [nowMs];
    await bulk(
      connection,
      CHANGE[action],
      ours.map(({ id, destination }) => [...times, id, destination]),
    );
  }
  return { slice: operatedSlice(action, found, selection.ids !== undefined, removed, changes), erased };
}

/**
 * Locks rows that were found without locks, with their mails. Rows that another transaction has locked are being claimed
 * or settled, and count as being sent: should that node hang, nobody waits for it.
 */
async function lockRows(
  connection: Connection,
  rows: readonly SelectedRow[],
  states: readonly string[],
): Promise<SelectedRow[]> {
  const ids = [...new Set(rows.filter(({ state }) => state !== 'SENDING').map(({ id }) => id))];
  const locked = await selectIn<Omit<SelectedRow, 'some'>>(
    connection,
    `SELECT o.mail_id AS id, o.destination, o.state, o.seqs, o.waiting, o.bounced
     FROM mail_outbox o ${BY_KEY} STRAIGHT_JOIN mails m ON m.id = o.mail_id
     WHERE o.mail_id IN % AND o.state IN ${marks(states.length)} FOR UPDATE SKIP LOCKED`,
    ids,
    states,
  );
  const free = new Map(locked.map((row) => [`${row.id} ${row.destination}`, row]));
  return rows.map((row) => ({
    ...row,
    ...(free.get(`${row.id} ${row.destination}`) ?? { state: 'SENDING' }),
  }));
}

const SHRINK = 'UPDATE mail_outbox SET waiting = waiting - ? WHERE mail_id = ? AND destination = ?';
const FAIL = `UPDATE mail_outbox SET state = 'DEAD', due_at = NULL, waiting = 0 WHERE mail_id = ? AND destination = ?`;
const CLOSE = `UPDATE mails SET open_rows = open_rows - 1, dead = dead | ?,
  settled_at = IF(open_rows = 0 AND settled_at IS NULL, ?, settled_at) WHERE id = ?`;

/**
 * Removes the recipients who are meant, and rows in which none waits then.
 * @param removed takes the addresses that waited. @returns mails that were erased with their last row.
 */
export async function removeRows(
  connection: Connection,
  rows: readonly SelectedRow[],
  nowMs: number,
  removed: Removals,
): Promise<MailFacts[]> {
  const isPart = (row: SelectedRow): boolean => row.some !== null && (!isWhole(row) || row.bounced > 0);
  const [whole, parts] = [rows.filter((row) => !isPart(row)), rows.filter(isPart)];
  const runs = rows.flatMap((row) =>
    (isPart(row) ? runsOf((row.some ?? []).map(({ seq }) => seq)) : parseRuns(row.seqs)).map((run) => ({
      id: row.id,
      destination: row.destination,
      run,
    })),
  );
  await readWaiting(connection, runs, removed);
  await bulk(
    connection,
    'DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?',
    whole.map(({ id, destination }) => [id, destination]),
  );
  await bulk(
    connection,
    SHRINK,
    parts
      .filter((row) => !isWhole(row))
      .map(({ id, destination, some }) => [some?.length ?? 0, id, destination]),
  );
  // Others of the row bounced: it stays for them.
  const failed = parts.filter(isWhole);
  await bulk(
    connection,
    FAIL,
    failed.map(({ id, destination }) => [id, destination]),
  );
  const settled = whole.filter(({ state }) => state !== 'DEAD' && state !== 'SENT');
  await bulk(connection, CLOSE, [
    ...settled.map(({ id }) => [0, nowMs, id]),
    ...failed.map(({ id }) => [1, nowMs, id]),
  ]);
  const erased = await eraseEmpty(connection, [...new Set(whole.map(({ id }) => id))]);
  // Rows of erased mails are gone, and need no last state.
  const gone = new Set(erased.map(({ id }) => id));
  await bulk(
    connection,
    `UPDATE mail_recipients SET status = 'removed'
     WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'`,
    runs.filter(({ id }) => !gone.has(id)).map(({ id, run }) => [id, ...run]),
  );
  return erased;
}

interface Run {
  id: string;
  destination: string;
  run: readonly [number, number];
}

/** Recipients are read for this many mails at once. */
const READ_MAILS = 500;

/** Reads the waiting recipients with a few statements: one statement per row would mean one round trip per row. */
async function readWaiting(connection: Connection, runs: readonly Run[], removed: Removals): Promise<void> {
  for (let at = 0; at < runs.length; at += READ_MAILS) {
    const part = runs.slice(at, at + READ_MAILS);
    const waiting = await connection.query<{ id: string; seq: number; address: string }[]>(
      `SELECT mail_id AS id, seq, address FROM mail_recipients
       WHERE status = 'waiting' AND (${part.map(() => '(mail_id = ? AND seq BETWEEN ? AND ?)').join(' OR ')})
       ORDER BY mail_id, seq`,
      part.flatMap(({ id, run }) => [id, ...run]),
    );
    const runsOfMail = Map.groupBy(part, ({ id }) => id);
    for (const { id, seq, address } of waiting) {
      const run = runsOfMail.get(id)?.find(({ run: [first, last] }) => seq >= first && seq <= last);
      if (run !== undefined) removed.add(id, run.destination, [address]);
    }
  }
}

/** Notes what events say of these messages, which may be erased with their rows. */
async function tellOf(
  connection: Connection,
  rows: readonly SelectedRow[],
  removed: Removals,
): Promise<void> {
  const mails = await selectIn<{ id: string; reversePath: string; messageId: string }>(
    connection,
    'SELECT id, reverse_path AS reversePath, message_id AS messageId FROM mails WHERE id IN %',
    [...new Set(rows.map(({ id }) => id))],
  );
  for (const { id, ...said } of mails) removed.tell(id, said);
}

/** Erases mails that have no row left. Rows that are being sent or kept for inspection keep their mail. */
async function eraseEmpty(connection: Connection, ids: string[]): Promise<MailFacts[]> {
  const left = await selectIn<{ id: string }>(
    connection,
    'SELECT DISTINCT mail_id AS id FROM mail_outbox WHERE mail_id IN %',
    ids,
  );
  const kept = new Set(left.map(({ id }) => id));
  const empty = ids.filter((id) => !kept.has(id));
  const mails = await selectIn<MailFacts>(
    connection,
    `SELECT ${MAIL_FACTS} FROM mails m WHERE m.id IN %`,
    empty,
  );
  await eraseMails(connection, mails);
  return mails;
}

/** Drops settled mails whose time for inspection is over, at most `limit`. */
export async function purgeMails(
  connection: Connection,
  keep: { keepDeliveredMs: number; keepFailedMs: number },
  nowMs: number,
  limit: number,
  cut: FailedMark | null,
): Promise<MailFacts[]> {
  const sql = `SELECT ${MAIL_FACTS} FROM mails m WHERE m.dead = ? AND m.settled_at <= ? AND (m.settled_at < ? OR m.id <= ?)
    ORDER BY m.settled_at, m.id LIMIT ? FOR UPDATE SKIP LOCKED`;
  const settled = (dead: 0 | 1, { settledAtMs, queueId }: FailedMark, most: number): Promise<MailFacts[]> =>
    connection.execute<MailFacts[]>(sql, [dead, settledAtMs, settledAtMs, queueId, most]);
  const sent = await settled(0, { settledAtMs: nowMs - keep.keepDeliveredMs, queueId: '~' }, limit);
  const over = { settledAtMs: nowMs - keep.keepFailedMs, queueId: '~' };
  const dead = sent.length < limit ? await settled(1, later(over, cut), limit - sent.length) : [];
  const mails = [...sent, ...dead];
  await eraseMails(connection, mails);
  return mails;
}

/** One bounded part of the walk over what failed, from the newest on. */
export async function failedPart(
  connection: Connection,
  left: FailedLimits,
  before: FailedMark | null,
): Promise<FailedSlice> {
  const { settledAtMs, queueId } = before ?? NEWEST;
  const rows = await connection.execute<Parameters<typeof failedSlice>[0]>(
    `SELECT id, settled_at AS settledAtMs, size_bytes AS sizeBytes FROM mails FORCE INDEX (mails_settled)
     WHERE dead = 1 AND settled_at <= ? AND (settled_at < ? OR id < ?) ORDER BY settled_at DESC, id DESC LIMIT ?`,
    [settledAtMs, settledAtMs, queueId, KEPT_FAILED_ROWS],
  );
  return failedSlice(rows, left);
}

/** Which of these objects no mail refers to any more. */
export async function unreferenced(connection: Connection, objects: string[]): Promise<string[]> {
  const found = await selectIn<{ object: string }>(
    connection,
    'SELECT DISTINCT object FROM mails WHERE object IN %',
    objects,
  );
  const used = new Set(found.map(({ object }) => object));
  return objects.filter((object) => !used.has(object));
}
