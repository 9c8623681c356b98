/** Drops what is over: settled mails past their time, failed ones beyond what is kept, and objects that no mail refers to. */
import type { Connection } from 'mariadb';
import {
  type FailedLimits,
  type FailedMark,
  type FailedSlice,
  failedSlice,
  KEPT_FAILED_ROWS,
  later,
  NEWEST,
} from '../kept-failed.ts';
import { eraseMails, MAIL_FACTS, type MailFacts, selectIn } from './sql.ts';

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
