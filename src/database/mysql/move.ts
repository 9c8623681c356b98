/** Reads what src/database/moving.ts needs to know, and writes what it works out: many messages with a few statements. */
import type { Connection } from 'mariadb';
import type { RouteTable } from '../../mail/destination.ts';
import type { Move } from '../../mail/operator-action.ts';
import {
  changeOf,
  configuredKey,
  keyForAll,
  type MovedRecipient,
  MovingRows,
  movedOf,
  OUTBOX_COLUMNS,
  OUTBOX_ROW,
  type OutboxRow,
  outboxValues,
} from '../moving.ts';
import type { SelectedRow } from '../select-rows.ts';
import { parseRuns, seqsOf } from '../seq-runs.ts';
import { bulk } from './insert.ts';
import { BY_KEY, selectIn } from './sql.ts';

/** Recipients of messages, by id and number. */
type Recipients = Map<string, Map<number, MovedRecipient>>;

export async function recipientsOfMails(connection: Connection, ids: readonly string[]): Promise<Recipients> {
  const found = await selectIn<MovedRecipient & { id: string }>(
    connection,
    'SELECT mail_id AS id, seq, domain, status FROM mail_recipients WHERE mail_id IN %',
    ids,
  );
  const recipients: Recipients = new Map();
  for (const recipient of found) {
    const ofMail = recipients.get(recipient.id);
    if (ofMail === undefined) recipients.set(recipient.id, new Map([[recipient.seq, recipient]]));
    else ofMail.set(recipient.seq, recipient);
  }
  return recipients;
}

export function recipientsIn(
  { seqs }: OutboxRow,
  recipients: ReadonlyMap<number, MovedRecipient>,
): MovedRecipient[] {
  return seqsOf(parseRuns(seqs)).flatMap((seq) => recipients.get(seq) ?? []);
}

/**
 * Does an operator's move of these rows, which are locked together with their messages. Rows whose recipients would join one
 * that is being sent, or is locked by another transaction, are left: their state becomes SENDING.
 * @returns by how many the rows that wait at each destination have grown.
 */
export async function moveRows(
  connection: Connection,
  found: readonly SelectedRow[],
  move: Move,
  routes: RouteTable,
  nowMs: number,
): Promise<Map<string, number>> {
  const ids = [...new Set(found.map(({ id }) => id))];
  const where = `FROM mail_outbox ${BY_KEY} WHERE mail_id IN %`;
  const free = await selectIn<OutboxRow>(
    connection,
    `SELECT ${OUTBOX_ROW} ${where} FOR UPDATE SKIP LOCKED`,
    ids,
  );
  // Read after the lock: nobody else gives these messages new rows now.
  const all = await selectIn<{ id: string; destination: string }>(
    connection,
    `SELECT mail_id AS id, destination ${where}`,
    ids,
  );
  const rowsOf = Map.groupBy(free, ({ id }) => id);
  const keysOf = Map.groupBy(all, ({ id }) => id);
  const recipientsOf = await recipientsOfMails(connection, ids);
  const changed = new Map<string, MovingRows>();
  for (const row of found) {
    const before = rowsOf.get(row.id) ?? [];
    const rows = changed.get(row.id) ?? new MovingRows(before);
    const from = before.find(({ destination }) => destination === row.destination) as OutboxRow;
    const to = keyForAll(move, row.destination);
    const keyOf = ({ domain }: MovedRecipient): string => to ?? configuredKey(domain, routes);
    // Those that are meant were found without locks: only now is it known that they wait.
    const recipients = recipientsIn(from, recipientsOf.get(row.id) ?? new Map());
    const meant = row.some === null ? null : new Set(row.some.map(({ seq }) => seq));
    const moved = movedOf(
      from,
      meant === null ? recipients : recipients.filter(({ seq }) => meant.has(seq)),
      keyOf,
    );
    const isTaken = (key: string): boolean =>
      !rows.has(key)
        ? (keysOf.get(row.id) ?? []).some(({ destination }) => destination === key)
        : rows.isSending(key);
    if ([...moved.keys()].some(isTaken)) row.state = 'SENDING';
    else {
      rows.move(row.destination, moved, changeOf(move, nowMs));
      changed.set(row.id, rows);
    }
  }
  await writeMoved(connection, changed);
  const changes = new Map<string, number>();
  for (const rows of changed.values())
    for (const [key, more] of rows.changes) changes.set(key, (changes.get(key) ?? 0) + more);
  return changes;
}

/** Writes the rows that changed. @param changed rows of messages by queue id. */
export async function writeMoved(
  connection: Connection,
  changed: ReadonlyMap<string, MovingRows>,
): Promise<void> {
  const parts = [...changed].map(([id, rows]) => ({ id, ...rows.changed, rows }));
  await bulk(
    connection,
    'DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?',
    parts.flatMap(({ id, old }) => old.map(({ destination }) => [id, destination])),
  );
  await bulk(
    connection,
    `INSERT INTO mail_outbox (${OUTBOX_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
    parts.flatMap(({ now }) => now.map(outboxValues)),
  );
  await bulk(
    connection,
    'UPDATE mails SET open_rows = open_rows + ?, dead = dead | ? WHERE id = ?',
    parts
      .filter(({ rows: { opened, failed } }) => opened !== 0 || failed)
      .map(({ id, rows: { opened, failed } }) => [opened, failed ? 1 : 0, id]),
  );
}
