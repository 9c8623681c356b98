/** Whether a relay process that accepts no more has something left to do. Part of the composition root. */
import { purgeAll } from '../persistence/housekeeping.ts';
import type { Unsettled } from '../persistence/unsettled.ts';
import type { RelayDatabase } from './database.ts';
import type { RelayJournal } from './journal.ts';

/** What the queue holds: mail that waits, settled mail that is kept for inspection, or nothing. */
export async function remainsOf(
  { database, shards }: RelayDatabase,
  journal: RelayJournal | null,
  unsettled: Unsettled,
): Promise<'waiting' | 'settled' | 'nothing'> {
  // The queue on servers belongs to all nodes: only what is left in files here counts.
  if (shards !== null) return (journal?.waiting ?? 0) + unsettled.waiting > 0 ? 'waiting' : 'nothing';
  const { PENDING, SENDING, RETRY, HELD } = (await database.stats()).rows;
  if (PENDING + SENDING + RETRY + HELD > 0) return 'waiting';
  await purgeAll(database);
  const { mails } = await database.stats();
  return mails === 0 ? 'nothing' : 'settled';
}
