/** Counts the death of a process in the rows it was attempting, and sets aside what has too many. */
import type { DatabaseSync } from 'node:sqlite';
import { type BegunRow, hashOf } from '../../mail/begun-slots.ts';
import type { SuspectedRow } from '../database.ts';
import { DEATHS_HELD, POISON_DETAIL, SUSPECTED_POISON } from '../outbox-rows.ts';

/** Within the caller's transaction, before leases are given back: a row not SENDING was settled since. */
export function suspectRows(db: DatabaseSync, begun: readonly BegunRow[]): SuspectedRow[] {
  const sending = db.prepare(
    "SELECT destination, fence, deaths FROM mail_outbox WHERE mail_id = ? AND state = 'SENDING'",
  );
  const count = db.prepare('UPDATE mail_outbox SET deaths = ? WHERE mail_id = ? AND destination = ?');
  const hold = db.prepare(
    `UPDATE mail_outbox SET deaths = ?, state = 'HELD', due_at = NULL, lease_owner = NULL, lease_until = NULL,
       reason = '${SUSPECTED_POISON}', detail = ? WHERE mail_id = ? AND destination = ?`,
  );
  const suspected: SuspectedRow[] = [];
  for (const { queueId, hash, fence } of begun)
    for (const row of sending.all(queueId)) {
      const destination = row.destination as string;
      if (row.fence !== fence || hashOf(destination) !== hash) continue;
      const deaths = (row.deaths as number) + 1;
      const held = deaths >= DEATHS_HELD;
      if (held) hold.run(deaths, POISON_DETAIL, queueId, destination);
      else count.run(deaths, queueId, destination);
      suspected.push({ queueId, destination, deaths, held });
    }
  return suspected;
}
