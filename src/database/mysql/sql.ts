/** Small pieces of SQL text and rows that several statements share. */
import type { Connection } from 'mariadb';
import type { ContentRef } from '../../storage/storage.ts';

/** Values in one IN list; longer lists are asked for in parts. */
const IN_VALUES = 1000;

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

/** Like selectIn, for a statement that changes rows. Returns how many it changed. */
export async function changeIn(
  connection: Connection,
  sql: string,
  values: readonly unknown[],
  more: readonly unknown[] = [],
): Promise<number> {
  let changed = 0;
  for (let at = 0; at < values.length; at += IN_VALUES) {
    const part = values.slice(at, at + IN_VALUES);
    const { affectedRows } = await connection.query<{ affectedRows: number }>(
      sql.replace('%', marks(part.length)),
      [...part, ...more],
    );
    changed += affectedRows;
  }
  return changed;
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
  const small = mails.filter(({ recipients }) => recipients <= FEW_RECIPIENTS).map(({ id }) => id);
  await changeIn(
    connection,
    `DELETE m, o, r FROM mails m LEFT JOIN mail_outbox o ON o.mail_id = m.id
       LEFT JOIN mail_recipients r ON r.mail_id = m.id WHERE m.id IN %`,
    small.sort(),
  );
  const ids = mails.filter(({ recipients }) => recipients > FEW_RECIPIENTS).map(({ id }) => id);
  ids.sort();
  await changeIn(connection, 'DELETE FROM mail_outbox WHERE mail_id IN %', ids);
  await changeIn(connection, 'DELETE FROM mail_recipients WHERE mail_id IN %', ids);
  const attached = mails.filter(({ attachments }) => attachments > 0).map(({ id }) => id);
  await changeIn(connection, 'DELETE FROM attachments WHERE mail_id IN %', attached.sort());
  const headed = mails.filter(({ headers }) => headers > 0).map(({ id }) => id);
  await changeIn(connection, 'DELETE FROM mail_headers WHERE mail_id IN %', headed.sort());
  await changeIn(connection, 'DELETE FROM mails WHERE id IN %', ids);
}
