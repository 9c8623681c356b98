/**
 * Finds the rows that an action means, and locks them with their mails, so that nobody else gives these new rows meanwhile. Rows
 * that another transaction has locked are being claimed or settled, and count as being sent: should that node hang, nobody
 * waits for it.
 */
import type { Connection } from 'mariadb';
import type { Selection } from '../database.ts';
import { rangeAfter, type SelectedRow, type SelectedRows, selectRows } from '../select-rows.ts';
import { allOf, type Condition, compile } from '../selection.ts';
import { answered, DIALECT } from './dialect.ts';
import { BY_KEY, marks, selectIn } from './sql.ts';

type Row = Omit<SelectedRow, 'some'>;

const ROW = 'o.mail_id AS id, o.destination, o.state, o.seqs, o.waiting, o.bounced';
const LOCKING = `SELECT ${ROW} FROM mail_outbox o ${BY_KEY} STRAIGHT_JOIN mails m ON m.id = o.mail_id`;
const NOT_SENDING: Condition = { sql: "o.state <> 'SENDING'", values: [] };

export interface LockedRows extends SelectedRows {
  /** How many of those that count as being sent are so because another transaction has locked them. */
  taken: number;
}

/** The rows of a slice; those that are not locked have the state SENDING. Their condition means those that are. */
export async function lockSlice(
  connection: Connection,
  selection: Selection,
  after: string,
  most: number,
): Promise<LockedRows> {
  const chosen = compile(selection, DIALECT);
  // What else a mail is like, and its recipients, is looked at without locks.
  if (chosen.recipient !== null || chosen.ofMails) {
    const found = await answered(connection, selectRows(selection, DIALECT, after, most));
    return locked(found, await lockRows(connection, found.rows, selection.states ?? []));
  }
  const { range, next } = await answered(connection, rangeAfter(chosen, DIALECT, after, most));
  const isRange = chosen.ids === null;
  // Mail that comes in meanwhile is left alone.
  const until = next ?? (isRange ? await newest(connection) : null);
  const within = until === null ? range('o.mail_id') : rangeOf(after, until);
  const { sql, values } = allOf([within, chosen.entry]);
  const where = `WHERE ${sql}`;
  const [rows, [counted]] = await Promise.all([
    connection.query<Row[]>(
      `${LOCKING} ${where} AND ${NOT_SENDING.sql} ORDER BY o.mail_id, o.destination FOR UPDATE SKIP LOCKED`,
      values,
    ),
    connection.query<{ n: number }[]>(`SELECT COUNT(*) AS n FROM ${DIALECT.outbox} ${where}`, values),
  ]);
  const all =
    counted?.n === rows.length
      ? rows
      : await connection.query<Row[]>(`SELECT ${ROW} FROM ${DIALECT.outbox} ${where}`, values);
  const found = {
    rows: all.map((row) => ({ ...row, some: null })),
    next,
    range: isRange ? ([after, until ?? ''] as [string, string]) : null,
    condition: allOf([within, chosen.alone]),
    within: null,
  };
  return locked(found, rows);
}

const rangeOf = (after: string, until: string): Condition => ({
  sql: 'o.mail_id > ? AND o.mail_id <= ?',
  values: [after, until],
});

/** The newest message; '': there is none. */
async function newest(connection: Connection): Promise<string> {
  const [row] = await connection.query<{ id: string | null }[]>('SELECT MAX(mail_id) AS id FROM mail_outbox');
  return row?.id ?? '';
}

/** Locks rows that were found without locks. */
function lockRows(
  connection: Connection,
  rows: readonly SelectedRow[],
  states: readonly string[],
): Promise<Row[]> {
  const ids = [...new Set(rows.filter(({ state }) => state !== 'SENDING').map(({ id }) => id))];
  return selectIn<Row>(
    connection,
    `${LOCKING} WHERE o.mail_id IN % AND o.state IN ${marks(states.length)} AND ${NOT_SENDING.sql}
     FOR UPDATE SKIP LOCKED`,
    ids,
    states,
  );
}

/** @param rows as they are now that they are locked. */
function locked(found: SelectedRows, rows: readonly Row[]): LockedRows {
  const free = new Map(rows.map((row) => [`${row.id} ${row.destination}`, row]));
  const taken: Condition[] = [];
  const all = found.rows.map((row): SelectedRow => {
    const now = free.get(`${row.id} ${row.destination}`);
    if (now !== undefined) return { ...now, some: row.some };
    // A statement would wait for them, if its condition meant what they were before.
    if (row.state !== 'SENDING')
      taken.push({ sql: 'NOT (o.mail_id = ? AND o.destination = ?)', values: [row.id, row.destination] });
    return { ...row, state: 'SENDING' };
  });
  const condition = found.condition === null ? null : allOf([found.condition, NOT_SENDING, ...taken]);
  return { ...found, rows: all, condition, taken: taken.length };
}
