/** Counts what is in the queue, in bounded parts: the caller asks again from `next` on. */
import type { Connection } from 'mariadb';
import {
  addStates,
  ageColumn,
  noSlice,
  packed,
  type StateRow,
  type StateSums,
  type StatsSlice,
} from '../../mail/queue-stats.ts';
import { SUSPECTED_POISON } from '../outbox-rows.ts';

/** How many entries are looked at in one go, with the rest of those of the last message. */
const SLICE_ROWS = 10_000;
const RANGE = 'mail_id > ? AND mail_id <= ?';

async function idOf(connection: Connection, condition: string, values: string[]): Promise<string | null> {
  const rows = await connection.execute<{ id: string }[]>(
    `SELECT mail_id AS id FROM mail_outbox WHERE ${condition}`,
    values,
  );
  return rows[0]?.id ?? null;
}

export async function statsSlice(connection: Connection, after: string, nowMs: number): Promise<StatsSlice> {
  const first = await idOf(connection, 'mail_id > ? ORDER BY mail_id LIMIT 1', [after]);
  if (first === null) return noSlice();
  const { age, until: columnEnd } = ageColumn(first, nowMs);
  const fits = `${RANGE} ORDER BY mail_id LIMIT 1 OFFSET ${SLICE_ROWS}`;
  const next = (await idOf(connection, fits, [after, columnEnd ?? '~'])) ?? columnEnd;
  const range = [after, next ?? '~'];
  const [states, rows, [mails], oldest] = await Promise.all([
    connection.execute<StateSums[]>(
      `SELECT state, COUNT(*) AS entries, COUNT(DISTINCT mail_id) AS messages, SUM(waiting) AS waiting,
         SUM(bounced) AS bounced, SUM(reason = '${SUSPECTED_POISON}') AS suspected
       FROM mail_outbox WHERE ${RANGE} GROUP BY state`,
      range,
    ),
    connection.execute<StateRow[]>(
      `SELECT destination, state, COUNT(*) AS entries, SUM(waiting) AS recipients,
         MIN(IF(state = 'SENDING', NULL, due_at)) AS dueMs
       FROM mail_outbox WHERE ${RANGE} AND waiting > 0 GROUP BY destination, state`,
      range,
    ),
    connection.execute<{ mails: number; bytes: number | null }[]>(
      'SELECT COUNT(*) AS mails, SUM(size_bytes) AS bytes FROM mails WHERE id > ? AND id <= ?',
      range,
    ),
    connection.execute<{ ms: number }[]>(
      `SELECT received_at AS ms FROM mails WHERE id =
         (SELECT mail_id FROM mail_outbox WHERE ${RANGE} AND waiting > 0 ORDER BY mail_id LIMIT 1)`,
      range,
    ),
  ]);
  const slice = { ...noSlice(), age, next };
  addStates(slice, states);
  return {
    ...slice,
    mails: mails?.mails ?? 0,
    contentBytes: Number(mails?.bytes ?? 0),
    oldestMs: oldest[0]?.ms ?? null,
    ...packed(rows),
  };
}
