/** What operators read of the queue, in bounded parts: the caller asks again from `next` on. */
import type { Connection } from 'mariadb';
import type {
  DestinationBacklog,
  MailDetail,
  OutboxState,
  QueueFilter,
  QueueRow,
  RecipientStatus,
} from '../database.ts';
import { QUEUE_ROW, SUSPECTED_POISON } from '../outbox-rows.ts';
import { listRows } from '../select-rows.ts';
import { parseRuns } from '../seq-runs.ts';
import { type ListSlice, noRows, type StatsSlice } from '../slices.ts';
import { answered, DIALECT } from './dialect.ts';
import { selectIn } from './sql.ts';

/** How many mails are looked at in one go. */
const SLICE_MAILS = 10_000;

/** Counts rows that wait, by destination. Leased rows are not among them. */
const BACKLOG = `SELECT destination, COUNT(*) AS \`rows\`, MIN(due_at) AS nextDueMs FROM mail_outbox
  WHERE due_at IS NOT NULL AND state <> 'SENDING'`;

/** The queue id at which a slice of `mails` mails after `after` ends; null when it reaches the end of the queue. */
async function sliceEnd(connection: Connection, after: string, mails: number): Promise<string | null> {
  const rows = await connection.execute<{ id: string }[]>(
    'SELECT id FROM mails WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?',
    [after, mails - 1],
  );
  return rows[0]?.id ?? null;
}

export function listSlice(connection: Connection, filter: QueueFilter): Promise<ListSlice> {
  return answered(connection, listRows(DIALECT, filter, SLICE_MAILS));
}

export async function showMail(connection: Connection, queueId: string): Promise<MailDetail | null> {
  const [mail] = await connection.execute<Omit<MailDetail, 'rows' | 'recipients' | 'attachments'>[]>(
    `SELECT id AS queueId, reverse_path AS reversePath, size_bytes AS sizeBytes, received_at AS receivedAtMs,
       client_address AS clientAddress, client_helo AS clientHelo, protocol, trace FROM mails WHERE id = ?`,
    [queueId],
  );
  if (mail === undefined) return null;
  const [found, recipients, attachments] = await Promise.all([
    connection.execute<(QueueRow & { seqs: string })[]>(
      `SELECT ${QUEUE_ROW}, o.seqs FROM mail_outbox o JOIN mails m ON m.id = o.mail_id WHERE o.mail_id = ? ORDER BY o.destination`,
      [queueId],
    ),
    connection.execute<Omit<MailDetail['recipients'][number], 'destination'>[]>(
      'SELECT seq, address, class, status, reason, detail FROM mail_recipients WHERE mail_id = ? ORDER BY seq',
      [queueId],
    ),
    connection.execute<MailDetail['attachments']>(
      'SELECT seq, name, type, size_bytes AS sizeBytes, content_offset AS `offset` FROM attachments WHERE mail_id = ? ORDER BY seq',
      [queueId],
    ),
  ]);
  const destinations: string[] = [];
  const rows = found.map(({ seqs, ...row }) => {
    for (const [first, last] of parseRuns(seqs))
      for (let seq = first; seq <= last; seq++) destinations[seq] = row.destination;
    return row;
  });
  return {
    ...mail,
    rows,
    recipients: recipients.map((r) => ({
      ...r,
      destination: destinations[r.seq] ?? '',
      status: r.status as RecipientStatus,
    })),
    attachments: [...attachments],
  };
}

export async function statsSlice(connection: Connection, after: string): Promise<StatsSlice> {
  const next = await sliceEnd(connection, after, SLICE_MAILS);
  const until = next ?? '~';
  const states = await connection.execute<{ state: OutboxState; n: number; suspected: number }[]>(
    `SELECT state, COUNT(*) AS n, CAST(SUM(reason = '${SUSPECTED_POISON}') AS SIGNED) AS suspected FROM mail_outbox
     WHERE mail_id > ? AND mail_id <= ? GROUP BY state`,
    [after, until],
  );
  const [sums] = await connection.execute<{ mails: number; bytes: number | null; oldest: number | null }[]>(
    'SELECT COUNT(*) AS mails, SUM(size_bytes) AS bytes, MIN(received_at) AS oldest FROM mails WHERE id > ? AND id <= ?',
    [after, until],
  );
  const rows = noRows();
  let suspectedPoison = 0;
  for (const { state, n, suspected } of states) {
    rows[state] = n;
    if (state === 'HELD') suspectedPoison = Number(suspected);
  }
  return {
    rows,
    mails: sums?.mails ?? 0,
    contentBytes: sums?.bytes ?? 0,
    oldestMs: sums?.oldest ?? null,
    suspectedPoison,
    next,
  };
}

export async function backlog(connection: Connection): Promise<DestinationBacklog[]> {
  return [...(await connection.query<DestinationBacklog[]>(`${BACKLOG} GROUP BY destination`))];
}

/** The backlog of these destinations; rows = 0 where nothing waits. */
export async function backlogOf(
  connection: Connection,
  destinations: string[],
): Promise<DestinationBacklog[]> {
  const sql = `${BACKLOG} AND destination IN % GROUP BY destination`;
  const found = new Map(
    (await selectIn<DestinationBacklog>(connection, sql, destinations)).map((row) => [row.destination, row]),
  );
  return destinations.map((destination) => found.get(destination) ?? { destination, rows: 0, nextDueMs: 0 });
}
