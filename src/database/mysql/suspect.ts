/** Counts the death of a process in the rows it was attempting, and sets aside what has too many. */
import type { Connection } from 'mariadb';
import { type BegunRow, hashOf } from '../../mail/begun-slots.ts';
import type { SuspectedRow } from '../database.ts';
import { DEATHS_HELD, POISON_DETAIL, SUSPECTED_POISON } from '../outbox-rows.ts';
import { bulk } from './insert.ts';
import { selectIn } from './sql.ts';

interface Row {
  queueId: string;
  destination: string;
  state: string;
  fence: number;
  deaths: number;
  owner: string | null;
}

/**
 * Within the caller's transaction. A row that another node took over and is attempting only has the death counted:
 * its attempt goes on, and ends the counting when it ends well. One that was settled since is none of this.
 * @param isOver whether a lease is of an earlier life of this process.
 */
export async function suspectRows(
  connection: Connection,
  begun: readonly BegunRow[],
  isOver: (owner: string) => boolean,
): Promise<SuspectedRow[]> {
  const ids = [...new Set(begun.map(({ queueId }) => queueId))].sort();
  const found = await selectIn<Row>(
    connection,
    `SELECT mail_id AS queueId, destination, state, fence, deaths, lease_owner AS owner FROM mail_outbox
     WHERE mail_id IN % AND state IN ('SENDING','PENDING') ORDER BY mail_id FOR UPDATE`,
    ids,
  );
  const fences = new Map(begun.map(({ queueId, hash, fence }) => [`${queueId} ${hash}`, fence]));
  const suspected: SuspectedRow[] = [];
  for (const { queueId, destination, state, fence, deaths: before, owner } of found) {
    const begunFence = fences.get(`${queueId} ${hashOf(destination)}`);
    if (begunFence === undefined || fence < begunFence) continue;
    // Who took it over has counted this death already (claim.ts).
    const deaths = fence > begunFence ? Math.max(before, 1) : before + 1;
    const held = deaths >= DEATHS_HELD && (state === 'PENDING' || isOver(owner ?? ''));
    suspected.push({ queueId, destination, deaths, held });
  }
  await bulk(
    connection,
    'UPDATE mail_outbox SET deaths = ? WHERE mail_id = ? AND destination = ?',
    suspected.map(({ deaths, queueId, destination }) => [deaths, queueId, destination]),
  );
  await bulk(
    connection,
    `UPDATE mail_outbox SET state = 'HELD', due_at = NULL, lease_owner = NULL, reason = '${SUSPECTED_POISON}', detail = ?
     WHERE mail_id = ? AND destination = ?`,
    suspected
      .filter(({ held }) => held)
      .map(({ queueId, destination }) => [POISON_DETAIL, queueId, destination]),
  );
  return suspected;
}
