/** Marks rows that may have ended a process, and sets aside those that did so alone (mail/suspicion.ts). */
import type { Connection } from 'mariadb';
import { type BegunRow, hashOf } from '../../mail/begun-slots.ts';
import type { EntryFacts } from '../../mail/job.ts';
import { SUSPICION, type SuspectMark } from '../../mail/suspicion.ts';
import type { LeasedKey, SuspectedRow } from '../database.ts';
import { POISON_DETAIL, SUSPECTED_POISON } from '../outbox-rows.ts';
import { bulk } from './insert.ts';
import { livesThatDied } from './node-lock.ts';
import { BY_KEY, selectIn } from './sql.ts';

interface Row extends EntryFacts {
  state: string;
  fence: number;
  deaths: number;
  owner: string | null;
}

/** What a claim must know of a row. */
export interface ClaimedRow {
  id: string;
  state: string;
  deaths: number;
  owner: string | null;
}

/**
 * Marks the rows that were under way when this process died. Runs within the caller's transaction. A row that another
 * node took over and is attempting is only marked: its attempt goes on, and clears the suspicion when it ends. A row
 * that was settled since is left alone.
 * @param isOver whether the owner of a lease is an earlier life of this process.
 */
export async function suspectRows(
  connection: Connection,
  begun: readonly BegunRow[],
  isOver: (owner: string) => boolean,
): Promise<SuspectedRow[]> {
  const ids = [...new Set(begun.map(({ queueId }) => queueId))].sort();
  const found = await selectIn<Row>(
    connection,
    `SELECT o.mail_id AS queueId, o.destination, o.state, o.fence, o.deaths, o.lease_owner AS owner,
       m.reverse_path AS reversePath, m.message_id AS messageId
     FROM mail_outbox o ${BY_KEY} STRAIGHT_JOIN mails m ON m.id = o.mail_id
     WHERE o.mail_id IN % AND o.state IN ('SENDING','PENDING') ORDER BY o.mail_id FOR UPDATE`,
    ids,
  );
  const fences = new Map(begun.map(({ queueId, hash, fence }) => [`${queueId} ${hash}`, fence]));
  const suspected: SuspectedRow[] = [];
  for (const { state, fence, deaths, owner, ...entry } of found) {
    const { queueId, destination } = entry;
    const begunFence = fences.get(`${queueId} ${hashOf(destination)}`);
    if (begunFence === undefined || fence < begunFence) continue;
    const ours = fence === begunFence && (state === 'PENDING' || isOver(owner ?? ''));
    suspected.push({ ...entry, held: ours && deaths >= SUSPICION.alone });
  }
  await bulk(
    connection,
    'UPDATE mail_outbox SET deaths = GREATEST(deaths, ?) WHERE mail_id = ? AND destination = ?',
    suspected.map(({ queueId, destination }) => [SUSPICION.suspect, queueId, destination]),
  );
  await hold(
    connection,
    suspected.filter(({ held }) => held),
  );
  return suspected;
}

/**
 * Judges rows that are taken over from a node that died while it sent them. A row that was sent alone is set aside; one
 * that was sent in company goes alone from now on (its `deaths` say so).
 * @returns the rows that were set aside.
 */
export async function judgeTakenOver(
  connection: Connection,
  database: string,
  destination: string,
  rows: readonly ClaimedRow[],
): Promise<EntryFacts[]> {
  const marked = rows.filter(
    ({ state, deaths }) =>
      state === 'SENDING' && (deaths === SUSPICION.inCompany || deaths >= SUSPICION.alone),
  );
  if (marked.length === 0) return [];
  const nodes = new Set(marked.map(({ owner }) => nodeOf(owner ?? '')));
  const died = await livesThatDied(connection, database, nodes);
  const guilty = marked.filter(({ owner }) =>
    died.some((life) => owner === life || owner?.startsWith(`${life}-`)),
  );
  const inCompany = guilty.filter(({ deaths }) => deaths === SUSPICION.inCompany);
  for (const row of inCompany) row.deaths = SUSPICION.suspect;
  await bulk(
    connection,
    'UPDATE mail_outbox SET deaths = ? WHERE mail_id = ? AND destination = ?',
    inCompany.map(({ id, deaths }) => [deaths, id, destination]),
  );
  const alone = guilty.filter(({ deaths }) => deaths >= SUSPICION.alone).map(({ id }) => id);
  const mails = await selectIn<Omit<EntryFacts, 'destination'>>(
    connection,
    'SELECT id AS queueId, reverse_path AS reversePath, message_id AS messageId FROM mails WHERE id IN %',
    alone,
  );
  const held = mails.map((mail) => ({ ...mail, destination }));
  await hold(connection, held);
  return held;
}

function hold(connection: Connection, rows: readonly LeasedKey[]): Promise<void> {
  return bulk(
    connection,
    `UPDATE mail_outbox SET state = 'HELD', due_at = NULL, lease_owner = NULL, reason = '${SUSPECTED_POISON}', detail = ?
     WHERE mail_id = ? AND destination = ?`,
    rows.map(({ queueId, destination }) => [POISON_DETAIL, queueId, destination]),
  );
}

/** Writes down whether rows of ours are sent alone or in company. */
export function markSuspects(connection: Connection, rows: readonly SuspectMark[]): Promise<void> {
  return bulk(
    connection,
    `UPDATE mail_outbox SET deaths = ? WHERE mail_id = ? AND destination = ? AND fence = ? AND state = 'SENDING'`,
    rows.map(({ queueId, destination, fence, suspicion }) => [suspicion, queueId, destination, fence]),
  );
}

/** 'node' of 'node#life-claim'. */
const nodeOf = (owner: string): string => owner.slice(0, owner.lastIndexOf('#'));
