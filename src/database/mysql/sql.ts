/** Small pieces of SQL text and rows that several statements share. */
import type { Connection } from 'mariadb';
import type { ContentRef } from '../../storage/storage.ts';
import { RowsChanged } from './errors.ts';

/** Values in one IN list; longer lists are asked for in parts. */
const IN_VALUES = 1000;

/**
 * For every statement that locks what it looks at: a table of few rows would else be read as a whole, and the statement wait for
 * rows that others are just inserting.
 */
export const BY_KEY = 'FORCE INDEX (PRIMARY)';

/** The same where the server does not heed that (DELETE): a list of ids as a table `k`, each looked up in the others. */
const IDS = `JSON_TABLE(?, '$[*]' COLUMNS (id VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$')) k`;

/** '(?,?,?)' */
export const marks = (count: number): string => `(${new Array(count).fill('?').join(',')})`;

/** Rows of `sql` with its IN list (at `%`) filled from `values`; `more` are the values behind it. */
export async function selectIn<T>(
  connection: Connection,
  sql: string,
  values: readonly unknown[],
  more: readonly unknown[] = [],
): Promise<T[]> {
  const rows: T[] = [];
  for (let at = 0; at < values.length; at += IN_VALUES) {
    const part = values.slice(at, at + IN_VALUES);
    const found = await connection.query<T[]>(sql.replace('%', marks(part.length)), [...part, ...more]);
    for (const row of found) rows.push(row);
  }
  return rows;
}

/**
 * Mails with no more recipients than this are read and deleted in one join with them, which repeats the mail for each.
 */
export const FEW_RECIPIENTS = 4;

/** What must be known of a mail to delete it. */
export interface MailFacts {
  id: string;
  sizeBytes: number;
  object: string;
  contentAt: number;
  attachments: number;
  headers: number;
  recipients: number;
}

export const MAIL_FACTS =
  'm.id, m.size_bytes AS sizeBytes, m.object, m.content_at AS contentAt, m.attachments, m.headers, m.recipients';

export const contentRef = (mail: MailFacts): ContentRef => ({
  object: mail.object,
  offset: mail.contentAt,
  lengthBytes: mail.sizeBytes,
  parts: 0,
});

/** Deletes mails with all their rows: a few statements, however many mails. */
export async function eraseMails(connection: Connection, mails: readonly MailFacts[]): Promise<void> {
  if (mails.length === 0) return;
  // Rows are locked in the order of ids, so two transactions that delete never deadlock.
  const isSmall = ({ recipients }: MailFacts): boolean => recipients <= FEW_RECIPIENTS;
  await deleteOf(
    connection,
    `DELETE m, o, r FROM ${IDS} STRAIGHT_JOIN mails m ON m.id = k.id LEFT JOIN mail_outbox o ON o.mail_id = m.id
       LEFT JOIN mail_recipients r ON r.mail_id = m.id`,
    mails.filter(isSmall),
  );
  const large = mails.filter((mail) => !isSmall(mail));
  await deleteOf(connection, rowsOf('mail_outbox'), large);
  await deleteOf(connection, rowsOf('mail_recipients'), large);
  await deleteAttached(connection, mails);
  await deleteOf(connection, `DELETE m FROM ${IDS} STRAIGHT_JOIN mails m ON m.id = k.id`, large);
}

/**
 * Deletes mails that are all there are after an id, and whose rows are locked: in the order of the key, which takes half as long
 * as to look each up. @param mails in order of id. @returns how many rows of the outbox were deleted with all but the last.
 * @throws RowsChanged when there were others.
 */
export async function eraseRange(
  connection: Connection,
  mails: readonly MailFacts[],
  after: string,
): Promise<number> {
  // A range locks the row behind it, too: with this the last mail, and nobody else's.
  const last = mails.at(-1) as MailFacts;
  const most = mails.slice(0, -1);
  const erase = async (table: string, key: string): Promise<number> => {
    const sql = `DELETE FROM ${table} WHERE ${key} > ? AND ${key} < ?`;
    return (await connection.query<{ affectedRows: number }>(sql, [after, last.id])).affectedRows;
  };
  const [rows, recipients, gone] = await Promise.all([
    erase('mail_outbox', 'mail_id'),
    erase('mail_recipients', 'mail_id'),
    erase('mails', 'id'),
    deleteAttached(connection, most),
  ]);
  const there = most.reduce((sum, mail) => sum + mail.recipients, 0);
  if (gone !== most.length || recipients !== there) throw new RowsChanged();
  await eraseMails(connection, [last]);
  return rows;
}

async function deleteAttached(connection: Connection, mails: readonly MailFacts[]): Promise<void> {
  const attached = mails.filter(({ attachments }) => attachments > 0);
  await deleteOf(connection, rowsOf('attachments'), attached);
  const headed = mails.filter(({ headers }) => headers > 0);
  await deleteOf(connection, rowsOf('mail_headers'), headed);
}

const rowsOf = (table: string): string => `DELETE t FROM ${IDS} STRAIGHT_JOIN ${table} t ON t.mail_id = k.id`;

async function deleteOf(connection: Connection, sql: string, mails: readonly MailFacts[]): Promise<void> {
  const ids = mails.map(({ id }) => id).sort();
  for (let at = 0; at < ids.length; at += IN_VALUES)
    await connection.query(sql, [JSON.stringify(ids.slice(at, at + IN_VALUES))]);
}
