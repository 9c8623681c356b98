/**
 * Leases due rows of one destination to this node, a batch at a time: rows that wait, and rows whose lease ended
 * without a word from their owner. Rows that another node is claiming are skipped, not waited for.
 */
import type { Connection } from 'mariadb';
import type { EntryFacts, Job, JobRecipient } from '../../mail/job.ts';
import { queueIdAt } from '../../mail/queue-id.ts';
import { SUSPICION } from '../../mail/suspicion.ts';
import type { ClaimRequest } from '../database.ts';
import { type AttemptRow, jobOf, MAIL_ROW, type MailRow } from '../mail-rows.ts';
import { parseRuns, type Run } from '../seq-runs.ts';
import { BY_KEY, FEW_RECIPIENTS, MAIL_FACTS, type MailFacts, marks, selectIn } from './sql.ts';
import { judgeTakenOver } from './suspect.ts';

interface DueRow extends AttemptRow {
  id: string;
  state: string;
  /** Owner of the lease that ended, where one did. */
  owner: string | null;
  dueAt: number;
  waiting: number;
  seqs: string;
}

type LeasedMail = MailRow & MailFacts;

interface RecipientRow {
  id: string;
  seq: number;
  address: string;
  notify: number;
  orcpt: string | null;
}

/** A leased row, its content not loaded yet. */
export interface LeasedRow {
  job: Job;
  mail: MailFacts;
  /** State and due time to restore, should the row have to be given back. */
  state: string;
  dueAt: number;
}

export interface Leased {
  rows: LeasedRow[];
  /** Due time of the earliest row that still waits; null when none does. */
  nextDueMs: number | null;
  /** Rows that ended their node, and were set aside. */
  held: EntryFacts[];
}

const NOT_LOADED = -1;
/** When a mail has more recipients than this, most of them in other rows, only the recipients of the row are read. */
const MANY_RECIPIENTS = 100;

/**
 * @param database name of the database.
 * @param owner written to the leases, so that those of an interrupted claim can be found again.
 */
export async function leaseRows(
  connection: Connection,
  database: string,
  request: ClaimRequest,
  owner: string,
): Promise<Leased> {
  const { destination, nowMs, leaseUntilMs, limit, receivedBeforeMs } = request;
  // Old messages are found by the key: there are few, and any number of others for the destination.
  const isOld = receivedBeforeMs !== undefined;
  const due = await connection.execute<DueRow[]>(
    `SELECT mail_id AS id, state, lease_owner AS owner, due_at AS dueAt, attempts, fence, waiting,
       delay_notified AS delayNotified, deaths, operator_text AS operatorText, seqs
     FROM mail_outbox FORCE INDEX (${isOld ? 'PRIMARY' : 'outbox_due'}) WHERE destination = ? AND due_at <= ?
       AND (state <> 'SENDING' OR 1 = ?) ${isOld ? 'AND mail_id < ?' : ''}
     ORDER BY ${isOld ? 'mail_id' : 'due_at'} LIMIT ? FOR UPDATE SKIP LOCKED`,
    [
      destination,
      nowMs,
      (request.takeOver ?? true) ? 1 : 0,
      ...(isOld ? [queueIdAt(receivedBeforeMs)] : []),
      limit,
    ],
  );
  const some = withinRecipients(due, request.maxRecipients);
  // A full claim says by itself that there may be more.
  const more = some.length < due.length || due.length === limit;
  const held = await judgeTakenOver(connection, database, destination, some);
  const isHeld = new Set(held.map(({ queueId }) => queueId));
  const rows = held.length === 0 ? some : some.filter(({ id }) => !isHeld.has(id));
  if (rows.length === 0)
    return { rows: [], nextDueMs: more ? nowMs : await nextDue(connection, destination), held };
  const ids = rows.map(({ id }) => id);
  const [found] = await Promise.all([
    selectIn<LeasedMail & { seq: number | null } & Omit<RecipientRow, 'seq'>>(
      connection,
      `SELECT ${MAIL_FACTS}, ${MAIL_ROW}, r.seq, r.address, r.notify, r.orcpt
       FROM mails m LEFT JOIN mail_recipients r
         ON r.mail_id = m.id AND m.recipients <= ${FEW_RECIPIENTS} AND r.status = 'waiting'
       WHERE m.id IN %`,
      ids,
    ),
    connection.query(
      `UPDATE mail_outbox ${BY_KEY} SET state = 'SENDING', due_at = ?, fence = fence + 1, lease_owner = ?
       WHERE destination = ? AND mail_id IN ${marks(ids.length)}`,
      [leaseUntilMs, owner, destination, ...ids],
    ),
  ]);
  const mailOf = new Map<string, LeasedMail>();
  const waiting = new WaitingRecipients(rows);
  for (const row of found) {
    mailOf.set(row.id, row);
    if (row.seq !== null) waiting.add(row as RecipientRow);
  }
  const [nextDueMs] = await Promise.all([
    more ? nowMs : nextDue(connection, destination),
    waiting.readMany(connection, mailOf),
  ]);
  const leased = rows.map((row) => {
    const mail = mailOf.get(row.id) as LeasedMail;
    const job = jobOf(mail, row, destination, waiting.of(row.id), NOT_LOADED);
    if (row.state === 'SENDING') job.suspicion ??= SUSPICION.takenOver;
    return {
      job,
      mail,
      state: row.state === 'SENDING' ? 'PENDING' : row.state,
      dueAt: row.state === 'SENDING' ? nowMs : row.dueAt,
    };
  });
  return { rows: leased, nextDueMs, held };
}

function withinRecipients(due: DueRow[], maxRecipients: number): DueRow[] {
  let recipients = 0;
  const at = due.findIndex((row, i) => {
    recipients += row.waiting;
    return i > 0 && recipients > maxRecipients;
  });
  return at < 0 ? due : due.slice(0, at);
}

/** Gathers the recipients of leased rows that still wait, in order of their numbers. */
class WaitingRecipients {
  readonly #rows: DueRow[];
  readonly #runs: Map<string, Run[]>;
  readonly #found = new Map<string, JobRecipient[]>();

  constructor(rows: DueRow[]) {
    this.#rows = rows;
    this.#runs = new Map(rows.map(({ id, seqs }) => [id, parseRuns(seqs)]));
  }

  of(id: string): JobRecipient[] {
    return (this.#found.get(id) ?? []).sort((a, b) => a.seq - b.seq);
  }

  /** Adds the recipient if it belongs to the row. */
  add({ id, seq, address, notify, orcpt }: RecipientRow): void {
    if (!contains(this.#runs.get(id) as Run[], seq)) return;
    const recipient: JobRecipient = { seq, address, notify };
    if (orcpt !== null) recipient.orcpt = orcpt;
    const list = this.#found.get(id);
    if (list) list.push(recipient);
    else this.#found.set(id, [recipient]);
  }

  /** Reads the recipients of mails that have many. */
  async readMany(connection: Connection, mailOf: ReadonlyMap<string, LeasedMail>): Promise<void> {
    const columns =
      "SELECT mail_id AS id, seq, address, notify, orcpt FROM mail_recipients WHERE status = 'waiting'";
    const whole: string[] = [];
    const runs: [id: string, first: number, last: number][] = [];
    for (const { id, waiting } of this.#rows) {
      const { recipients } = mailOf.get(id) as LeasedMail;
      if (recipients <= FEW_RECIPIENTS) continue;
      if (recipients <= Math.max(MANY_RECIPIENTS, 4 * waiting)) whole.push(id);
      else for (const [first, last] of this.#runs.get(id) as Run[]) runs.push([id, first, last]);
    }
    const ofRun = `${columns} AND mail_id = ? AND seq BETWEEN ? AND ?`;
    const parts = await Promise.all([
      selectIn<RecipientRow>(connection, `${columns} AND mail_id IN %`, whole),
      ...runs.map((run) => connection.execute<RecipientRow[]>(ofRun, run)),
    ]);
    for (const part of parts) for (const row of part) this.add(row);
  }
}

/** Runs are ascending. */
function contains(runs: readonly Run[], seq: number): boolean {
  if (runs.length === 1) return seq >= (runs[0] as Run)[0] && seq <= (runs[0] as Run)[1];
  let low = 0;
  let high = runs.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [first, last] = runs[middle] as Run;
    if (seq < first) high = middle - 1;
    else if (seq > last) low = middle + 1;
    else return true;
  }
  return false;
}

/** Due time of the earliest waiting row of the destination; null when none waits. */
async function nextDue(connection: Connection, destination: string): Promise<number | null> {
  const rows = await connection.execute<{ dueAt: number }[]>(
    `SELECT due_at AS dueAt FROM mail_outbox FORCE INDEX (outbox_due)
     WHERE destination = ? AND due_at > -1 AND state <> 'SENDING' ORDER BY due_at LIMIT 1`,
    [destination],
  );
  return rows[0]?.dueAt ?? null;
}

/** Gives back the rows that a claim leased, when its answer was lost. */
export async function unclaim(
  connection: Connection,
  { destination, leaseUntilMs, nowMs }: ClaimRequest,
  owner: string,
): Promise<void> {
  await connection.execute(
    `UPDATE mail_outbox FORCE INDEX (outbox_due) SET state = 'PENDING', due_at = ?, lease_owner = NULL
     WHERE destination = ? AND due_at = ? AND state = 'SENDING' AND lease_owner = ?`,
    [nowMs, destination, leaseUntilMs, owner],
  );
}
