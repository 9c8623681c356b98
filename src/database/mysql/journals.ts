/** How far this shard has taken over the journals of relay processes: what makes a transfer happen exactly once. */
import type { Connection } from 'mariadb';
import { RelayError } from '../../base/errors.ts';
import type { JournalMark, JournalTransfer } from '../database.ts';

interface Row {
  seq: number | bigint;
  pending: string;
}

const markOf = (row: Row | undefined): JournalMark =>
  row === undefined
    ? { seq: 0, pending: [] }
    : { seq: Number(row.seq), pending: JSON.parse(row.pending) as number[] };

/** The shard's mark of a journal; seq 0 when the shard has never heard of it. */
export async function journalMark(connection: Connection, journal: string): Promise<JournalMark> {
  const [row] = await connection.execute<Row[]>('SELECT seq, pending FROM relay_journals WHERE journal = ?', [
    journal,
  ]);
  return markOf(row);
}

/**
 * Whether the messages are still to be inserted; false when they were inserted before. Runs within the transaction:
 * other transfers of the journal wait until this one ends.
 * @throws RelayError 'database_refused' when only some of them were inserted before: somebody else drains the same
 *   journal.
 */
export async function isNewTransfer(connection: Connection, transfer: JournalTransfer): Promise<boolean> {
  const { journal, seqs } = transfer;
  const [row] = await connection.execute<Row[]>(
    'SELECT seq, pending FROM relay_journals WHERE journal = ? FOR UPDATE',
    [journal],
  );
  const { seq: upTo, pending } = markOf(row);
  const known = seqs.filter((seq) => seq <= upTo && !pending.includes(seq)).length;
  if (known !== 0 && known !== seqs.length)
    throw new RelayError(
      'database_refused',
      `${known} of ${seqs.length} messages of journal ${journal} are here already: another relay drains a copy of it`,
    );
  return known === 0;
}

export async function writeMark(
  connection: Connection,
  { journal, mark }: JournalTransfer,
  nowMs: number,
): Promise<void> {
  await connection.execute(
    `INSERT INTO relay_journals (journal, seq, pending, updated_at) VALUES (?, ?, ?, ?)
     ON DUPLICATE KEY UPDATE seq = VALUES(seq), pending = VALUES(pending), updated_at = VALUES(updated_at)`,
    [journal, mark.seq, JSON.stringify(mark.pending), nowMs],
  );
}
