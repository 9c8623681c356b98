/** What operators read of the queue, in bounded parts: the caller asks again from `next` on. */

import type { Connection } from 'mariadb';
import type { CountKey, CountSlice } from '../../mail/queue-counts.ts';
import type { QueueRow } from '../../mail/queue-row.ts';
import { countRows } from '../count-rows.ts';
import type { DestinationBacklog, MailDetail, QueueFilter, RecipientStatus, Selection } from '../database.ts';
import { QUEUE_ROW, shownRow } from '../outbox-rows.ts';
import { beforeSql, placed } from '../queue-place.ts';
import type { ListSlice } from '../select-rows.ts';
import { listLines } from '../select-rows.ts';
import { parseRuns } from '../seq-runs.ts';
import { answered, DIALECT } from './dialect.ts';

/** How many mails are looked at in one go. */
const SLICE_MAILS = 10_000;

/** Counts rows that wait, by destination. Leased rows are not among them. */
const BACKLOG = `SELECT destination, COUNT(*) AS \`rows\`, MIN(due_at) AS nextDueMs FROM mail_outbox
  WHERE due_at IS NOT NULL AND state <> 'SENDING'`;

const BEFORE = beforeSql('mail_outbox FORCE INDEX (outbox_due)');

export function linesSlice(connection: Connection, filter: QueueFilter): Promise<ListSlice<string>> {
  return answered(connection, listLines(DIALECT, filter));
}

export function countSlice(
  connection: Connection,
  selection: Selection,
  by: CountKey | null,
  after: string,
): Promise<CountSlice> {
  return answered(connection, countRows(selection, by, DIALECT, after, SLICE_MAILS));
}

export async function showMail(connection: Connection, queueId: string): Promise<MailDetail | null> {
  const [mail] = await connection.execute<
    Omit<MailDetail, 'rows' | 'recipients' | 'attachments' | 'before'>[]
  >(
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
  const before: Record<string, number> = {};
  for (const row of placed(found)) {
    const at = [row.destination, row.nextAttemptMs];
    const [earlier] = await connection.execute<{ n: number | string }[]>(BEFORE, at);
    before[shownRow(row).destination] = Number(earlier?.n ?? 0);
  }
  const destinations: string[] = [];
  const rows = found.map(shownRow).map(({ seqs, ...row }) => {
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
    before,
  };
}

export async function backlog(connection: Connection): Promise<DestinationBacklog[]> {
  return [...(await connection.query<DestinationBacklog[]>(`${BACKLOG} GROUP BY destination`))];
}
