/** Removes recipients and rows by an operator's action, and the mails that have none left. */
import type { Connection } from 'mariadb';
import type { Removals } from '../removals.ts';
import { isWhole, type SelectedRow, type SelectedRows } from '../select-rows.ts';
import { parseRuns, runsOf, seqsOf } from '../seq-runs.ts';
import { RowsChanged } from './errors.ts';
import { bulk } from './insert.ts';
import { eraseMails, eraseRange, MAIL_FACTS, type MailFacts, selectIn } from './sql.ts';

const SHRINK = 'UPDATE mail_outbox SET waiting = waiting - ? WHERE mail_id = ? AND destination = ?';
const FAIL = `UPDATE mail_outbox SET state = 'DEAD', due_at = NULL, waiting = 0 WHERE mail_id = ? AND destination = ?`;
const CLOSE = `UPDATE mails SET open_rows = open_rows - 1, dead = dead | ?,
  settled_at = IF(open_rows = 0 AND settled_at IS NULL, ?, settled_at) WHERE id = ?`;

interface Said {
  reversePath: string;
  messageId: string;
}
type SaidMail = MailFacts & Said;
const SAID_MAIL = `${MAIL_FACTS}, m.reverse_path AS reversePath, m.message_id AS messageId`;

interface Waiting {
  id: string;
  seq: number;
  address: string;
}
const WAITING = `SELECT mail_id AS id, seq, address FROM mail_recipients WHERE status = 'waiting'`;

/**
 * Deletes rows that are locked, with their mails where none stays. @param removed takes the addresses that waited.
 * @param byEntry rows changed when they were deleted together: not again. @returns mails that were erased with their last row.
 */
export async function deleteRows(
  connection: Connection,
  found: SelectedRows,
  nowMs: number,
  removed: Removals,
  byEntry: boolean,
): Promise<MailFacts[]> {
  const rows = found.rows.filter(({ state }) => state !== 'SENDING');
  if (rows.length === 0) return [];
  if (!byEntry && found.range !== null && found.next !== null && rows.length === found.rows.length) {
    const erased = await deleteRange(connection, rows, found.range, removed);
    if (erased !== null) return erased;
  }
  const rowsOf = Map.groupBy(rows, ({ id }) => id);
  const there = await selectIn<{ id: string; n: number }>(
    connection,
    'SELECT mail_id AS id, COUNT(*) AS n FROM mail_outbox WHERE mail_id IN % GROUP BY mail_id',
    [...rowsOf.keys()],
  );
  const goes = ({ id, n }: { id: string; n: number }): boolean => {
    const ofMail = rowsOf.get(id) ?? [];
    return ofMail.length === n && !ofMail.some(isPart);
  };
  const whole = new Set(there.filter(goes).map(({ id }) => id));
  const mails = await eraseWhole(
    connection,
    rows.filter(({ id }) => whole.has(id)),
    [...whole],
    removed,
  );
  const rest = rows.filter(({ id }) => !whole.has(id));
  await tellOf(connection, rest, removed);
  return [...mails, ...(await removeRows(connection, rest, nowMs, removed))];
}

/** Deletes all mails of a range. @returns null: rows of them are not meant, and nothing was done. */
async function deleteRange(
  connection: Connection,
  rows: readonly SelectedRow[],
  range: readonly [string, string],
  removed: Removals,
): Promise<MailFacts[] | null> {
  const [[counted], mails, waiting] = await Promise.all([
    connection.query<{ n: number }[]>(
      'SELECT COUNT(*) AS n FROM mail_outbox WHERE mail_id > ? AND mail_id <= ?',
      [...range],
    ),
    connection.query<SaidMail[]>(
      `SELECT ${SAID_MAIL} FROM mails m WHERE m.id > ? AND m.id <= ? ORDER BY m.id`,
      [...range],
    ),
    connection.query<Waiting[]>(`${WAITING} AND mail_id > ? AND mail_id <= ?`, [...range]),
  ]);
  if (counted?.n !== rows.length) return null;
  const gone = await eraseRange(connection, mails, range[0]);
  const kept = mails.at(-1)?.id;
  if (gone !== rows.filter(({ id }) => id !== kept).length) throw new RowsChanged();
  tellWhole(rows, mails, waiting, removed);
  return mails;
}

/** Deletes mails of which all rows are meant. */
async function eraseWhole(
  connection: Connection,
  rows: readonly SelectedRow[],
  ids: readonly string[],
  removed: Removals,
): Promise<MailFacts[]> {
  if (ids.length === 0) return [];
  const [mails, waiting] = await Promise.all([
    selectIn<SaidMail>(connection, `SELECT ${SAID_MAIL} FROM mails m WHERE m.id IN %`, ids),
    selectIn<Waiting>(connection, `${WAITING} AND mail_id IN %`, ids),
  ]);
  await eraseMails(connection, mails);
  tellWhole(rows, mails, waiting, removed);
  return mails;
}

function tellWhole(
  rows: readonly SelectedRow[],
  mails: readonly SaidMail[],
  waiting: readonly Waiting[],
  removed: Removals,
): void {
  const said = new Map<string, Said>(mails.map((mail) => [mail.id, mail]));
  const addresses = new Map<string, Map<number, string>>();
  for (const { id, seq, address } of waiting) {
    const ofMail = addresses.get(id);
    if (ofMail === undefined) addresses.set(id, new Map([[seq, address]]));
    else ofMail.set(seq, address);
  }
  for (const { id, destination, seqs } of rows) {
    const { reversePath = '', messageId = '' } = said.get(id) ?? {};
    const ofMail = addresses.get(id);
    const recipients = seqsOf(parseRuns(seqs)).flatMap((seq) => ofMail?.get(seq) ?? []);
    removed.addWhole({ queueId: id, destination, reversePath, messageId, recipients });
  }
}

/** Whether the row stays, with others of its recipients. */
const isPart = (row: SelectedRow): boolean => row.some !== null && (!isWhole(row) || row.bounced > 0);

/**
 * Removes the recipients who are meant, and rows in which none waits then.
 * @param removed takes the addresses that waited. @returns mails that were erased with their last row.
 */
export async function removeRows(
  connection: Connection,
  rows: readonly SelectedRow[],
  nowMs: number,
  removed: Removals,
): Promise<MailFacts[]> {
  const [whole, parts] = [rows.filter((row) => !isPart(row)), rows.filter(isPart)];
  const runs = rows.flatMap((row) =>
    (isPart(row) ? runsOf((row.some ?? []).map(({ seq }) => seq)) : parseRuns(row.seqs)).map((run) => ({
      id: row.id,
      destination: row.destination,
      run,
    })),
  );
  await readWaiting(connection, runs, removed);
  await bulk(
    connection,
    'DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?',
    whole.map(({ id, destination }) => [id, destination]),
  );
  await bulk(
    connection,
    SHRINK,
    parts
      .filter((row) => !isWhole(row))
      .map(({ id, destination, some }) => [some?.length ?? 0, id, destination]),
  );
  // Others of the row bounced: it stays for them.
  const failed = parts.filter(isWhole);
  await bulk(
    connection,
    FAIL,
    failed.map(({ id, destination }) => [id, destination]),
  );
  const settled = whole.filter(({ state }) => state !== 'DEAD' && state !== 'SENT');
  await bulk(connection, CLOSE, [
    ...settled.map(({ id }) => [0, nowMs, id]),
    ...failed.map(({ id }) => [1, nowMs, id]),
  ]);
  const erased = await eraseEmpty(connection, [...new Set(whole.map(({ id }) => id))]);
  // Rows of erased mails are gone, and need no last state.
  const gone = new Set(erased.map(({ id }) => id));
  await bulk(
    connection,
    `UPDATE mail_recipients SET status = 'removed'
     WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'`,
    runs.filter(({ id }) => !gone.has(id)).map(({ id, run }) => [id, ...run]),
  );
  return erased;
}

interface Run {
  id: string;
  destination: string;
  run: readonly [number, number];
}

/** Recipients are read for this many mails at once. */
const READ_MAILS = 500;

/** Reads the waiting recipients with a few statements: one statement per row would mean one round trip per row. */
async function readWaiting(connection: Connection, runs: readonly Run[], removed: Removals): Promise<void> {
  for (let at = 0; at < runs.length; at += READ_MAILS) {
    const part = runs.slice(at, at + READ_MAILS);
    const waiting = await connection.query<{ id: string; seq: number; address: string }[]>(
      `SELECT mail_id AS id, seq, address FROM mail_recipients
       WHERE status = 'waiting' AND (${part.map(() => '(mail_id = ? AND seq BETWEEN ? AND ?)').join(' OR ')})
       ORDER BY mail_id, seq`,
      part.flatMap(({ id, run }) => [id, ...run]),
    );
    const runsOfMail = Map.groupBy(part, ({ id }) => id);
    for (const { id, seq, address } of waiting) {
      const run = runsOfMail.get(id)?.find(({ run: [first, last] }) => seq >= first && seq <= last);
      if (run !== undefined) removed.add(id, run.destination, [address]);
    }
  }
}

/** Notes what events say of these messages, which may be erased with their rows. */
async function tellOf(
  connection: Connection,
  rows: readonly SelectedRow[],
  removed: Removals,
): Promise<void> {
  const mails = await selectIn<{ id: string; reversePath: string; messageId: string }>(
    connection,
    'SELECT id, reverse_path AS reversePath, message_id AS messageId FROM mails WHERE id IN %',
    [...new Set(rows.map(({ id }) => id))],
  );
  for (const { id, ...said } of mails) removed.tell(id, said);
}

/** Erases mails that have no row left. Rows that are being sent or kept for inspection keep their mail. */
async function eraseEmpty(connection: Connection, ids: string[]): Promise<MailFacts[]> {
  const left = await selectIn<{ id: string }>(
    connection,
    'SELECT DISTINCT mail_id AS id FROM mail_outbox WHERE mail_id IN %',
    ids,
  );
  const kept = new Set(left.map(({ id }) => id));
  const empty = ids.filter((id) => !kept.has(id));
  const mails = await selectIn<MailFacts>(
    connection,
    `SELECT ${MAIL_FACTS} FROM mails m WHERE m.id IN %`,
    empty,
  );
  await eraseMails(connection, mails);
  return mails;
}
