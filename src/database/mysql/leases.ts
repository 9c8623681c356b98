/** Leases of rows being sent: extends them, gives them back, finds those of a life that ended. */
import type { Connection } from 'mariadb';
import { SUSPICION } from '../../mail/suspicion.ts';
import type { DestinationBacklog, LeasedKey, ReleasedRow } from '../database.ts';
import { UNREAD } from '../outbox-rows.ts';
import { bulk } from './insert.ts';
import { BY_KEY, marks, selectIn } from './sql.ts';

interface RowKey {
  id: string;
  destination: string;
}

/**
 * Clears the mark of a row that was sent in company: its attempt did not begin, so it is not suspected of what comes
 * next.
 */
const UNSUSPECTED = `deaths = IF(deaths = ${SUSPICION.inCompany}, 0, deaths)`;

const RENEW_ROWS = 1000;
const SCAN_ROWS = 5000;

/** Text for LIKE in which '%' and '_' stand for themselves. */
const literal = (text: string): string => text.replaceAll(/[\\%_]/g, '\\$&');

/**
 * Extends leases of this life. Rows that another transaction has locked are left out this time (a lease is renewed long
 * before its end), but are counted if they are ours.
 * @param owner 'node#life'; claims of the life append a number.
 * @returns how many rows are still ours.
 */
export async function renewLeases(
  connection: Connection,
  rows: readonly LeasedKey[],
  leaseUntilMs: number,
  owner: string,
): Promise<number> {
  let ours = 0;
  for (let at = 0; at < rows.length; at += RENEW_ROWS)
    ours += await renewPart(connection, rows.slice(at, at + RENEW_ROWS), leaseUntilMs, owner);
  return ours;
}

async function renewPart(
  connection: Connection,
  rows: readonly LeasedKey[],
  leaseUntilMs: number,
  owner: string,
): Promise<number> {
  const ids = rows.map(({ queueId }) => queueId);
  const destinations = [...new Set(rows.map(({ destination }) => destination))];
  // The lists are ranges of the key: their cross product may hold rows of this life that are not asked for.
  const where = `WHERE mail_id IN ${marks(ids.length)} AND destination IN ${marks(destinations.length)}
    AND state = 'SENDING' AND lease_owner LIKE ?`;
  const values = [...ids, ...destinations, `${literal(owner)}%`];
  const read = `SELECT mail_id AS id, destination FROM mail_outbox ${BY_KEY}`;
  const asked = new Set(rows.map(({ queueId, destination }) => `${queueId} ${destination}`));
  const isAsked = ({ id, destination }: RowKey): boolean => asked.has(`${id} ${destination}`);
  const found = await connection.query<RowKey[]>(`${read} ${where} FOR UPDATE SKIP LOCKED`, values);
  const free = found.filter(isAsked);
  if (free.length === rows.length && found.length === rows.length) {
    await connection.query(`UPDATE mail_outbox ${BY_KEY} SET due_at = ? ${where}`, [leaseUntilMs, ...values]);
    return free.length;
  }
  await bulk(
    connection,
    'UPDATE mail_outbox SET due_at = ? WHERE mail_id = ? AND destination = ?',
    free.map(({ id, destination }) => [leaseUntilMs, id, destination]),
  );
  return (await connection.query<RowKey[]>(`${read} ${where}`, values)).filter(isAsked).length;
}

/** SENDING → PENDING, due at once, where the fence still holds the row. */
export function releaseRows(
  connection: Connection,
  rows: readonly ReleasedRow[],
  nowMs: number,
): Promise<void> {
  return bulk(
    connection,
    `UPDATE mail_outbox SET state = 'PENDING', due_at = ?, lease_owner = NULL, ${UNSUSPECTED}, reason = ?, detail = ''
     WHERE mail_id = ? AND destination = ? AND fence = ? AND state = 'SENDING'`,
    rows.map(({ queueId, destination, fence, reason }) => [nowMs, reason, queueId, destination, fence]),
  );
}

/** Rows that were leased and cannot be sent now become what they were. */
export function unlease(
  connection: Connection,
  rows: readonly { queueId: string; destination: string; fence: number; state: string; dueAt: number }[],
): Promise<void> {
  return bulk(
    connection,
    `UPDATE mail_outbox SET state = ?, due_at = ?, lease_owner = NULL
     WHERE mail_id = ? AND destination = ? AND fence = ? AND state = 'SENDING'`,
    rows.map(({ queueId, destination, fence, state, dueAt }) => [state, dueAt, queueId, destination, fence]),
  );
}

/** The content cannot be read: the row is held for an operator, or put off for a while. */
export function setAside(
  connection: Connection,
  rows: readonly {
    queueId: string;
    destination: string;
    fence: number;
    detail: string;
    state: string;
    dueAt: number | null;
  }[],
): Promise<void> {
  return bulk(
    connection,
    `UPDATE mail_outbox SET state = ?, due_at = ?, lease_owner = NULL, reason = '${UNREAD}', detail = ?
     WHERE mail_id = ? AND destination = ? AND fence = ? AND state = 'SENDING'`,
    rows.map(({ queueId, destination, fence, detail, state, dueAt }) => [
      state,
      dueAt,
      detail.slice(0, 500),
      queueId,
      destination,
      fence,
    ]),
  );
}

/** Gives back rows of these owners. Looks at the whole outbox in parts and locks only what it changes. */
export async function releaseOwned(
  connection: Connection,
  isOver: (owner: string) => boolean,
  nowMs: number,
): Promise<number> {
  let released = 0;
  let after = { id: '', destination: '' };
  for (;;) {
    const rows = await connection.execute<
      { id: string; destination: string; state: string; owner: string }[]
    >(
      `SELECT mail_id AS id, destination, state, coalesce(lease_owner, '') AS owner FROM mail_outbox
       WHERE mail_id >= ? AND (mail_id > ? OR destination > ?) ORDER BY mail_id, destination LIMIT ${SCAN_ROWS}`,
      [after.id, after.id, after.destination],
    );
    const ours = rows.filter(({ state, owner }) => state === 'SENDING' && isOver(owner));
    if (ours.length > 0) released += await releaseFound(connection, ours, nowMs);
    if (rows.length < SCAN_ROWS) return released;
    after = rows.at(-1) as { id: string; destination: string };
  }
}

async function releaseFound(
  connection: Connection,
  rows: readonly (RowKey & { owner: string })[],
  nowMs: number,
): Promise<number> {
  // Rows that another transaction has locked are left out; they become due when their lease ends.
  const free = await selectIn<RowKey>(
    connection,
    `SELECT mail_id AS id, destination FROM mail_outbox ${BY_KEY} WHERE mail_id IN % AND state = 'SENDING' FOR UPDATE SKIP LOCKED`,
    [...new Set(rows.map(({ id }) => id))],
  );
  const keys = new Set(free.map(({ id, destination }) => `${id} ${destination}`));
  const ours = rows.filter(({ id, destination }) => keys.has(`${id} ${destination}`));
  await bulk(
    connection,
    `UPDATE mail_outbox SET state = 'PENDING', due_at = ?, lease_owner = NULL, ${UNSUSPECTED}
     WHERE mail_id = ? AND destination = ? AND state = 'SENDING' AND lease_owner = ?`,
    ours.map(({ id, destination, owner }) => [nowMs, id, destination, owner]),
  );
  return ours.length;
}

/**
 * Destinations that have something due, whichever node put it there, lapsed leases included: one look per
 * destination into the index (loose index scan), however many rows wait.
 */
export async function dueDestinations(connection: Connection, nowMs: number): Promise<DestinationBacklog[]> {
  return connection.execute<DestinationBacklog[]>(
    `SELECT destination, 1 AS \`rows\`, MIN(due_at) AS nextDueMs FROM mail_outbox
     GROUP BY destination HAVING nextDueMs <= ?`,
    [nowMs],
  );
}
