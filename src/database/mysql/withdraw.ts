/**
 * Takes back messages whose session answered 451 while they were being committed. A row that somebody has claimed
 * meanwhile may be on the wire, so it is never removed during its attempt.
 */

import type { Connection } from 'mariadb';
import { Removals } from '../removals.ts';
import type { SelectedRow } from '../select-rows.ts';
import { removeRows } from './remove.ts';
import { BY_KEY, type MailFacts, selectIn } from './sql.ts';

interface Row extends Omit<SelectedRow, 'some'> {
  owner: string | null;
}

export interface Withdrawn {
  erased: MailFacts[];
  /** Messages to be tried again: another transaction has locked a row of theirs, or a claim has leased it. */
  later: string[];
}

/**
 * Removes rows that wait, and rows that the commit itself leased and that were not handed to delivery. Rows leased by
 * claims are left for later, when their attempts are over.
 * @param owner 'node#life', written to the leases of commits; claims of the life append a number.
 */
export async function withdraw(
  connection: Connection,
  queueIds: readonly string[],
  owner: string,
  nowMs: number,
): Promise<Withdrawn> {
  if (queueIds.length === 0) return { erased: [], later: [] };
  const locked = await selectIn<Row>(
    connection,
    `SELECT m.id, o.destination, o.state, o.seqs, o.waiting, o.bounced, o.lease_owner AS owner
     FROM mail_outbox o ${BY_KEY} STRAIGHT_JOIN mails m ON m.id = o.mail_id
     WHERE o.mail_id IN % ORDER BY o.mail_id FOR UPDATE SKIP LOCKED`,
    queueIds,
  );
  const there = await selectIn<{ id: string; n: number }>(
    connection,
    'SELECT mail_id AS id, COUNT(*) AS n FROM mail_outbox WHERE mail_id IN % GROUP BY mail_id',
    queueIds,
  );
  const isClaimed = ({ state, owner: found }: Row): boolean => state === 'SENDING' && found !== owner;
  const parts = Map.groupBy(locked, ({ id }) => id);
  const later = there
    .filter(({ id, n }) => {
      const rows = parts.get(id) ?? [];
      return rows.length < n || rows.some(isClaimed);
    })
    .map(({ id }) => id);
  const free = locked.filter((row) => row.state !== 'SENT' && row.state !== 'DEAD' && !isClaimed(row));
  const whole = free.map((row) => ({ ...row, some: null }));
  return { erased: await removeRows(connection, whole, nowMs, new Removals()), later };
}
