/** Small pieces of SQL text and rows that several statements share. */
import type { Connection } from 'mariadb';
import type { ContentRef } from '../../storage/storage.ts';

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
  const rowsOf = (table: string): string =>
    `DELETE t FROM ${IDS} STRAIGHT_JOIN ${table} t ON t.mail_id = k.id`;
  await deleteOf(connection, rowsOf('mail_outbox'), large);
  await deleteOf(connection, rowsOf('mail_recipients'), large);
  const attached = mails.filter(({ attachments }) => attachments > 0);
  await deleteOf(connection, rowsOf('attachments'), attached);
  const headed = mails.filter(({ headers }) => headers > 0);
  await deleteOf(connection, rowsOf('mail_headers'), headed);
  await deleteOf(connection, `DELETE m FROM ${IDS} STRAIGHT_JOIN mails m ON m.id = k.id`, large);
}

async function deleteOf(connection: Connection, sql: string, mails: readonly MailFacts[]): Promise<void> {
  const ids = mails.map(({ id }) => id).sort();
  for (let at = 0; at < ids.length; at += IN_VALUES)
    await connection.query(sql, [JSON.stringify(ids.slice(at, at + IN_VALUES))]);
}
