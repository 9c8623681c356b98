/**
 * Keys waiting rows by today's route table: a new smarthost merges rows of many domains into one, and a smarthost that
 * is gone splits them. One mail at a time is worked out in memory and written back whole.
 */
import type { Connection } from 'mariadb';
import { type RouteTable, SMARTHOST, storedDestination } from '../../mail/destination.ts';
import { parseRuns, seqsOf, seqsText } from '../seq-runs.ts';
import { bulk } from './insert.ts';
import { selectIn } from './sql.ts';

/** How many rows one transaction looks at, and how many mails it writes. */
export const REKEY_ROWS = 1000;

export interface OutboxRow {
  id: string;
  destination: string;
  state: string;
  dueAt: number | null;
  attempts: number;
  fence: number;
  owner: string | null;
  seqs: string;
  waiting: number;
  bounced: number;
  delayNotified: number;
  reason: string;
  detail: string;
}

interface RecipientRow {
  id: string;
  seq: number;
  domain: string;
  status: string;
}

const isOpen = ({ state }: OutboxRow): boolean =>
  state === 'PENDING' || state === 'RETRY' || state === 'HELD';

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
  for (const { id, destination } of looked)
    if (destination === SMARTHOST || storedDestination(destination, routes) !== destination) suspects.add(id);
  const rekeyed = suspects.size === 0 ? 0 : await rekeyMails(connection, [...suspects], routes);
  return { rekeyed, next: full ? (looked.at(-1)?.id ?? null) : null };
}

async function rekeyMails(connection: Connection, ids: string[], routes: RouteTable): Promise<number> {
  const rows = await selectIn<OutboxRow>(
    connection,
    `SELECT mail_id AS id, destination, state, due_at AS dueAt, attempts, fence, lease_owner AS owner, seqs, waiting,
       bounced, delay_notified AS delayNotified, reason, detail
     FROM mail_outbox WHERE mail_id IN % ORDER BY mail_id, destination FOR UPDATE`,
    ids,
  );
  const recipients = await selectIn<RecipientRow>(
    connection,
    'SELECT mail_id AS id, seq, domain, status FROM mail_recipients WHERE mail_id IN % ORDER BY mail_id, seq',
    ids,
  );
  const rowsOf = Map.groupBy(rows, ({ id }) => id);
  const recipientsOf = Map.groupBy(recipients, ({ id }) => id);
  const changed: { before: OutboxRow[]; after: OutboxRow[] }[] = [];
  let rekeyed = 0;
  for (const [id, before] of rowsOf) {
    const plan = rekeyMail(before, recipientsOf.get(id) ?? [], routes);
    if (plan.rekeyed === 0) continue;
    rekeyed += plan.rekeyed;
    changed.push({ before, after: plan.rows });
  }
  await writeBack(connection, changed);
  return rekeyed;
}

/** The rows that a mail should have, and how many of its rows have another key now. */
function rekeyMail(
  before: readonly OutboxRow[],
  recipients: readonly RecipientRow[],
  routes: RouteTable,
): { rows: OutboxRow[]; rekeyed: number } {
  const bySeq = new Map(recipients.map((recipient) => [recipient.seq, recipient]));
  const rows = new Map(before.map((row) => [row.destination, { ...row }]));
  let rekeyed = 0;
  for (const row of before) {
    if (!isOpen(row)) continue;
    const current = rows.get(row.destination) as OutboxRow;
    const parts = new Map<string, number[]>();
    const settled: number[] = [];
    for (const seq of seqsOf(parseRuns(row.seqs))) {
      const recipient = bySeq.get(seq);
      if (recipient === undefined || recipient.status !== 'waiting') settled.push(seq);
      else {
        const destination = storedDestination(recipient.domain, routes);
        const part = parts.get(destination);
        if (part) part.push(seq);
        else parts.set(destination, [seq]);
      }
    }
    if (parts.size === 1 && parts.has(row.destination)) continue;
    rekeyed++;
    // Recipients that other rows of this mail moved here stay, too.
    const own = new Set(seqsOf(parseRuns(row.seqs)));
    const brought = seqsOf(parseRuns(current.seqs)).filter((seq) => !own.has(seq));
    const stays = [...(parts.get(row.destination) ?? []), ...brought];
    parts.delete(row.destination);
    current.seqs = seqsText([...stays, ...settled]);
    current.waiting = stays.length;
    if (stays.length === 0 && settled.length === 0) rows.delete(row.destination);
    else if (stays.length === 0) {
      current.state = current.bounced > 0 ? 'DEAD' : 'SENT';
      current.dueAt = null;
    }
    for (const [destination, seqs] of parts) moveTo(rows, row, destination, seqs);
  }
  return { rows: [...rows.values()], rekeyed };
}

/** Moves recipients to a destination: into a new row, or into the row that the mail has there. */
function moveTo(rows: Map<string, OutboxRow>, from: OutboxRow, destination: string, seqs: number[]): void {
  const there = rows.get(destination);
  if (there === undefined) {
    const row = { ...from, destination, seqs: seqsText(seqs), waiting: seqs.length, bounced: 0 };
    rows.set(destination, { ...row, owner: null });
    return;
  }
  const open = isOpen(there);
  there.seqs = seqsText([...seqs, ...seqsOf(parseRuns(there.seqs))]);
  there.waiting += seqs.length;
  there.delayNotified = Math.max(there.delayNotified, from.delayNotified);
  // Another node is sending that row: recipients that its result does not name will go on waiting.
  if (there.state === 'SENDING') return;
  const held = from.state === 'HELD' || there.state === 'HELD';
  const dueAt = Math.min(from.dueAt ?? Infinity, (open ? there.dueAt : null) ?? Infinity);
  there.state = held ? 'HELD' : open && there.state === 'RETRY' ? 'RETRY' : from.state;
  there.dueAt = held ? null : dueAt;
  there.attempts = Math.max(there.attempts, from.attempts);
}

async function writeBack(
  connection: Connection,
  changed: readonly { before: OutboxRow[]; after: OutboxRow[] }[],
): Promise<void> {
  await bulk(
    connection,
    'DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?',
    changed.flatMap(({ before }) => before.map(({ id, destination }) => [id, destination])),
  );
  await bulk(
    connection,
    `INSERT INTO mail_outbox (mail_id, destination, state, due_at, attempts, fence, lease_owner, seqs, waiting, bounced,
       delay_notified, reason, detail) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
    changed.flatMap(({ after }) =>
      after.map((row) => [
        row.id,
        row.destination,
        row.state,
        row.dueAt,
        row.attempts,
        row.fence,
        row.owner,
        row.seqs,
        row.waiting,
        row.bounced,
        row.delayNotified,
        row.reason,
        row.detail,
      ]),
    ),
  );
  await bulk(
    connection,
    'UPDATE mails SET open_rows = ?, dead = GREATEST(dead, ?) WHERE id = ?',
    changed.map(({ before, after }) => [
      after.filter(({ state }) => state !== 'SENT' && state !== 'DEAD').length,
      after.some(({ bounced }) => bounced > 0) ? 1 : 0,
      (before[0] as OutboxRow).id,
    ]),
  );
}
