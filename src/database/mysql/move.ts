/** Reads what src/database/moving.ts needs to know, and writes what it works out: many messages with a few statements. */
import type { Connection } from 'mariadb';
import type { RouteTable } from '../../mail/destination.ts';
import type { Move } from '../../mail/operator-action.ts';
import { failKey } from '../../mail/operator-keys.ts';
import { FAILED_BY_OPERATOR } from '../../mail/outcome.ts';
import {
  changeOf,
  changesTogether,
  configuredKey,
  keyForAll,
  type MovedRecipient,
  MovingRows,
  movedOf,
  OUTBOX_COLUMNS,
  OUTBOX_ROW,
  type OutboxRow,
  outboxValues,
  waitsWhole,
} from '../moving.ts';
import type { SelectedRow } from '../select-rows.ts';
import { parseRuns, seqsOf } from '../seq-runs.ts';
import { RowsChanged } from './errors.ts';
import { bulk } from './insert.ts';
import type { LockedRows } from './lock-rows.ts';
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

const FAIL_SET =
  "destination = CONCAT(?, destination), state = 'PENDING', due_at = ?, reason = ?, detail = ?, operator_text = ?";
const REROUTE_SET = "destination = ?, due_at = IF(state = 'HELD', due_at, ?)";

/**
 * Does an operator's move of all locked rows of a slice with one statement, where they move as they are.
 * @returns as `moveRows`; null: they do not, and nothing was done. @throws the server's error when a message has a row there.
 */
export async function moveTogether(
  connection: Connection,
  { rows, condition, taken }: LockedRows,
  move: Move,
  nowMs: number,
): Promise<Map<string, number> | null> {
  const ours = rows.filter(({ state }) => state !== 'SENDING');
  const isOne = 'fail' in move || new Set(ours.map(({ id }) => id)).size === ours.length;
  const to = 'fail' in move ? failKey('') : move.reroute;
  // Where it changes the key, a statement waits for each row that it looks at.
  if (taken > 0 || condition === null || to === null || !isOne || !ours.every(waitsWhole)) return null;
  if (ours.length === 0) return new Map();
  const said = 'fail' in move ? [FAILED_BY_OPERATOR, move.fail, move.fail] : [];
  const { affectedRows } = await connection.query<{ affectedRows: number }>(
    `UPDATE mail_outbox o ${BY_KEY} SET ${'fail' in move ? FAIL_SET : REROUTE_SET} WHERE ${condition.sql}`,
    [to, nowMs, ...said, ...condition.values],
  );
  if (affectedRows !== ours.length) throw new RowsChanged();
  return changesTogether(ours, move);
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
