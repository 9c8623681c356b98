/** Operators' actions on rows. Rows being sent are left alone: a delivery thread of some node decides their fate. */
import type { Connection } from 'mariadb';
import type { OperateAction, OperateTarget, RowsTarget, ScannedTarget } from '../database.ts';
import {
  type FailedLimits,
  type FailedMark,
  type FailedSlice,
  failedSlice,
  KEPT_FAILED_ROWS,
  later,
  NEWEST,
} from '../kept-failed.ts';
import {
  HELD_UNREAD,
  isScanned,
  type OperatedRow,
  SCAN_ROWS,
  type ScannedRow,
  STATES_OF,
  scannedFor,
  UNREAD,
} from '../outbox-rows.ts';
import { parseRuns } from '../seq-runs.ts';
import { type OperateSlice, operatedSlice, type SliceRows, upToLast } from '../slices.ts';
import { bulk } from './insert.ts';
import { eraseMails, MAIL_FACTS, type MailFacts, marks, selectIn } from './sql.ts';

/** How many rows one transaction changes. */
const SLICE_ROWS = 1000;

const WHERE = 'WHERE mail_id = ? AND destination = ?';
const CHANGE = {
  flush: `UPDATE mail_outbox SET due_at = ? ${WHERE}`,
  hold: `UPDATE mail_outbox SET state = 'HELD', due_at = NULLIF(?, ?),
    reason = IF(reason = '${UNREAD}', '${HELD_UNREAD}', reason) ${WHERE}`,
  release: `UPDATE mail_outbox SET state = 'PENDING', due_at = ?, deaths = 0 ${WHERE}`,
} as const;

/** One bounded part of the action, within the caller's transaction. */
export async function operateSlice(
  connection: Connection,
  action: OperateAction,
  target: RowsTarget,
  nowMs: number,
  after: OperateSlice['next'],
): Promise<{ slice: OperateSlice; erased: MailFacts[] }> {
  const { rows, next } = isScanned(target)
    ? await lockScanned(connection, target, action, nowMs, after)
    : await lockRows(connection, action, target, after);
  const removed = new Map<string, string[]>();
  let erased: MailFacts[] = [];
  const ours = rows.filter(({ state }) => state !== 'SENDING');
  if (action === 'delete') erased = await removeRows(connection, ours, nowMs, removed);
  else {
    const times = action === 'hold' ? [nowMs, nowMs] : [nowMs];
    await bulk(
      connection,
      CHANGE[action],
      ours.map(({ id, destination }) => [...times, id, destination]),
    );
  }
  const isNamed = typeof target === 'object' && 'queueIds' in target;
  return { slice: operatedSlice(action, rows, isNamed, removed, next), erased };
}

/**
 * Looks for rows without locks, and then locks those it found, with their mails. Rows that another transaction has
 * locked are being claimed or settled, and count as being sent: should that node hang, nobody waits for it.
 */
async function lockRows(
  connection: Connection,
  action: OperateAction,
  target: OperateTarget,
  after: OperateSlice['next'],
): Promise<SliceRows> {
  const { rows, next } = upToLast(await findRows(connection, action, target, after), SLICE_ROWS);
  const ids = [...new Set(rows.filter(({ state }) => state !== 'SENDING').map(({ id }) => id))];
  const locked = await selectIn<OperatedRow>(
    connection,
    `SELECT o.mail_id AS id, o.destination, o.state, o.seqs FROM mail_outbox o STRAIGHT_JOIN mails m ON m.id = o.mail_id
     WHERE o.mail_id IN % AND o.state IN ${STATES_OF[action]} FOR UPDATE SKIP LOCKED`,
    ids,
  );
  const free = new Map(locked.map((row) => [`${row.id} ${row.destination}`, row]));
  return {
    rows: rows.map((row) => free.get(`${row.id} ${row.destination}`) ?? { ...row, state: 'SENDING' }),
    next,
  };
}

async function findRows(
  connection: Connection,
  action: OperateAction,
  target: OperateTarget,
  after: OperateSlice['next'],
): Promise<OperatedRow[]> {
  const queueIds = typeof target === 'object' && 'queueIds' in target ? target.queueIds : null;
  if (queueIds?.length === 0) return [];
  const from = after ?? { queueId: '', destination: '' };
  const where = ['mail_id >= ?', '(mail_id > ? OR destination > ?)', `state IN ${STATES_OF[action]}`];
  const values: unknown[] = [from.queueId, from.queueId, from.destination];
  if (queueIds !== null) {
    // These are few enough for one statement. Messages that an earlier slice has done are left out.
    const rest = queueIds.filter((queueId) => queueId >= from.queueId);
    if (rest.length === 0) return [];
    where.push(`mail_id IN ${marks(rest.length)}`);
    values.push(...rest);
  }
  if (typeof target === 'object' && 'destination' in target) {
    where.push('destination = ?');
    values.push(target.destination);
  }
  return connection.query<OperatedRow[]>(
    `SELECT mail_id AS id, destination, state, seqs FROM mail_outbox WHERE ${where.join(' AND ')}
     ORDER BY mail_id, destination LIMIT ${SLICE_ROWS}`,
    values,
  );
}

/**
 * Looks for rows without locks, and then locks those it found. Rows that another transaction has locked are left out.
 */
async function lockScanned(
  connection: Connection,
  target: ScannedTarget,
  action: OperateAction,
  nowMs: number,
  after: OperateSlice['next'],
): Promise<SliceRows> {
  const columns =
    'SELECT mail_id AS id, destination, state, seqs, reason, detail, due_at AS dueAt FROM mail_outbox';
  const from = [after?.queueId ?? '', after?.queueId ?? '', after?.destination ?? ''];
  const scanned = await connection.execute<ScannedRow[]>(
    `${columns} WHERE mail_id >= ? AND (mail_id > ? OR destination > ?)
     ORDER BY mail_id, destination LIMIT ${SCAN_ROWS}`,
    from,
  );
  const { rows, next } = upToLast(scanned, SCAN_ROWS);
  const ids = [...new Set(scannedFor(target, action, rows, nowMs).map(({ id }) => id))];
  const locked = await selectIn<ScannedRow>(
    connection,
    `${columns} WHERE mail_id IN % FOR UPDATE SKIP LOCKED`,
    ids,
  );
  return { rows: scannedFor(target, action, locked, nowMs), next };
}

/** @param removed takes the addresses that waited, by queue id. @returns mails that were erased with their last row. */
export async function removeRows(
  connection: Connection,
  rows: readonly OperatedRow[],
  nowMs: number,
  removed: Map<string, string[]>,
): Promise<MailFacts[]> {
  const runs = rows.flatMap(({ id, seqs }) => parseRuns(seqs).map((run) => ({ id, run })));
  await readWaiting(connection, runs, removed);
  await bulk(
    connection,
    'DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?',
    rows.map(({ id, destination }) => [id, destination]),
  );
  await bulk(
    connection,
    `UPDATE mails SET open_rows = open_rows - 1, settled_at = IF(open_rows = 0 AND settled_at IS NULL, ?, settled_at)
     WHERE id = ?`,
    rows.filter(({ state }) => state !== 'DEAD' && state !== 'SENT').map(({ id }) => [nowMs, id]),
  );
  const erased = await eraseEmpty(connection, [...new Set(rows.map(({ id }) => id))]);
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

/** Recipients are read for this many mails at once. */
const READ_MAILS = 500;

/** Reads the waiting recipients with a few statements: one statement per row would mean one round trip per row. */
async function readWaiting(
  connection: Connection,
  runs: readonly { id: string; run: readonly [number, number] }[],
  removed: Map<string, string[]>,
): Promise<void> {
  for (let at = 0; at < runs.length; at += READ_MAILS) {
    const part = runs.slice(at, at + READ_MAILS);
    const waiting = await connection.query<{ id: string; address: string }[]>(
      `SELECT mail_id AS id, address FROM mail_recipients
       WHERE status = 'waiting' AND (${part.map(() => '(mail_id = ? AND seq BETWEEN ? AND ?)').join(' OR ')})
       ORDER BY mail_id, seq`,
      part.flatMap(({ id, run }) => [id, ...run]),
    );
    for (const { id, address } of waiting) {
      const addresses = removed.get(id);
      if (addresses === undefined) removed.set(id, [address]);
      else addresses.push(address);
    }
  }
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
