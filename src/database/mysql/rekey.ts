/**
 * Keys waiting rows by today's route table: a new smarthost merges rows of many domains into one, and a smarthost that
 * is gone splits them. One mail at a time is worked out in memory and written back whole.
 */
import type { Connection } from 'mariadb';
import { type RouteTable, SMARTHOST, storedDestination } from '../../mail/destination.ts';
import { isOperatorKey } from '../../mail/operator-keys.ts';
import {
  configuredKey,
  isWaiting,
  type MovedRecipient,
  MovingRows,
  movedOf,
  OUTBOX_ROW,
  type OutboxRow,
} from '../moving.ts';
import { recipientsIn, recipientsOfMails, writeMoved } from './move.ts';
import { BY_KEY, selectIn } from './sql.ts';

/** How many rows one transaction looks at, and how many mails it writes. */
export const REKEY_ROWS = 1000;

/**
 * One bounded part. Within the caller's transaction.
 * @returns rows keyed anew, and where to go on; null at the end.
 */
export async function rekeySlice(
  connection: Connection,
  routes: RouteTable,
  after: string,
): Promise<{ rekeyed: number; next: string | null }> {
  const keys = await connection.execute<{ id: string; destination: string }[]>(
    `SELECT mail_id AS id, destination FROM mail_outbox
     WHERE mail_id > ? AND state IN ('PENDING','RETRY','HELD') ORDER BY mail_id LIMIT ${REKEY_ROWS}`,
    [after],
  );
  const last = keys.at(-1);
  const full = keys.length === REKEY_ROWS;
  // The last mail may have rows beyond the limit: it is left to the next part, unless it is the only one.
  const whole = full ? keys.filter(({ id }) => id !== last?.id) : keys;
  const looked = whole.length === 0 ? keys : whole;
  const suspects = new Set<string>();
  for (const { id, destination } of looked) if (isRekeyed(destination, routes)) suspects.add(id);
  const rekeyed = suspects.size === 0 ? 0 : await rekeyMails(connection, [...suspects], routes);
  return { rekeyed, next: full ? (looked.at(-1)?.id ?? null) : null };
}

/** Whether its rows may have another key by these routes. What an operator rerouted, or is ending, keeps its key. */
function isRekeyed(destination: string, routes: RouteTable): boolean {
  if (isOperatorKey(destination)) return false;
  return destination === SMARTHOST || storedDestination(destination, routes) !== destination;
}

async function rekeyMails(connection: Connection, ids: string[], routes: RouteTable): Promise<number> {
  const rowsOf = Map.groupBy(
    await selectIn<OutboxRow>(
      connection,
      `SELECT ${OUTBOX_ROW} FROM mail_outbox ${BY_KEY} WHERE mail_id IN % ORDER BY mail_id, destination FOR UPDATE`,
      ids,
    ),
    ({ id }) => id,
  );
  const recipientsOf = await recipientsOfMails(connection, ids);
  const keyOf = ({ domain }: MovedRecipient): string => configuredKey(domain, routes);
  const changed = new Map<string, MovingRows>();
  let rekeyed = 0;
  for (const [id, before] of rowsOf) {
    const rows = new MovingRows(before);
    const recipients = recipientsOf.get(id) ?? new Map();
    for (const row of before) {
      if (!isWaiting(row) || !isRekeyed(row.destination, routes)) continue;
      const moved = movedOf(row, recipientsIn(row, recipients), keyOf);
      if (moved.size === 0) continue;
      rekeyed++;
      rows.move(row.destination, moved);
      changed.set(id, rows);
    }
  }
  await writeMoved(connection, changed);
  return rekeyed;
}
