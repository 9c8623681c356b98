/** Marks rows that may have ended a process, and sets aside those that did so alone (mail/suspicion.ts). */
import type { DatabaseSync } from 'node:sqlite';
import { type BegunRow, hashOf } from '../../mail/begun-slots.ts';
import { SUSPICION, type SuspectMark } from '../../mail/suspicion.ts';
import type { SuspectedRow } from '../database.ts';
import { POISON_DETAIL, SUSPECTED_POISON } from '../outbox-rows.ts';

/** Runs within the caller's transaction, before leases are given back: a row that is not SENDING was settled since. */
export function suspectRows(db: DatabaseSync, begun: readonly BegunRow[]): SuspectedRow[] {
  const sending = db.prepare(
    `SELECT o.destination, o.fence, o.deaths, m.reverse_path AS reversePath, m.message_id AS messageId
     FROM mail_outbox o JOIN mails m ON m.id = o.mail_id WHERE o.mail_id = ? AND o.state = 'SENDING'`,
  );
  const mark = db.prepare('UPDATE mail_outbox SET deaths = ? WHERE mail_id = ? AND destination = ?');
  const hold = db.prepare(
    `UPDATE mail_outbox SET state = 'HELD', due_at = NULL, lease_owner = NULL, lease_until = NULL,
       reason = '${SUSPECTED_POISON}', detail = ? WHERE mail_id = ? AND destination = ?`,
  );
  const suspected: SuspectedRow[] = [];
  for (const { queueId, hash, fence } of begun)
    for (const row of sending.all(queueId)) {
      const destination = row.destination as string;
      if (row.fence !== fence || hashOf(destination) !== hash) continue;
      const held = (row.deaths as number) >= SUSPICION.alone;
      if (held) hold.run(POISON_DETAIL, queueId, destination);
      else mark.run(SUSPICION.suspect, queueId, destination);
      const { reversePath, messageId } = row as { reversePath: string; messageId: string };
      suspected.push({ queueId, destination, reversePath, messageId, held });
    }
  return suspected;
}

/** Writes down whether rows are sent alone or in company. Runs within the caller's transaction. */
export function markSuspects(db: DatabaseSync, rows: readonly SuspectMark[]): void {
  const mark = db.prepare(
    "UPDATE mail_outbox SET deaths = ? WHERE mail_id = ? AND destination = ? AND fence = ? AND state = 'SENDING'",
  );
  for (const { queueId, destination, fence, suspicion } of rows)
    mark.run(suspicion, queueId, destination, fence);
}
