/**
 * Writes down the fates of recipients after attempts (I2, I3): a whole batch with a handful of statements. A result
 * whose fencing number is stale changes nothing: somebody else owns the row by now.
 */
import type { Connection } from 'mariadb';
import type { KeepTimes, SettleGroup, Settlement, SuppressionNotes } from '../database.ts';
import { settledRow } from '../outbox-rows.ts';
import { runsOf } from '../seq-runs.ts';
import { bulk } from './insert.ts';
import { BY_KEY, eraseMails, MAIL_FACTS, type MailFacts, marks, selectIn } from './sql.ts';
import { orderSuppressions } from './suppressions.ts';

interface RowFacts extends MailFacts {
  destination: string;
  fence: number;
  state: string;
  waiting: number;
  bounced: number;
  openRows: number;
  dead: number;
}

/** What all settlements of the batch together make of a mail. */
interface MailState {
  readonly facts: MailFacts;
  openRows: number;
  dead: number;
  settledAtMs: number | null;
  changed: boolean;
  erased: boolean;
}

const RECIPIENTS = `UPDATE mail_recipients SET status = ?, reason = ?, detail = ?
  WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'`;
const ROW = `UPDATE mail_outbox SET state = ?, due_at = ?, attempts = ?, waiting = ?, bounced = ?, delay_notified = ?,
    lease_owner = NULL, deaths = 0, reason = ?, detail = ? WHERE mail_id = ? AND destination = ?`;
const MAIL = 'UPDATE mails SET open_rows = ?, dead = ?, settled_at = ? WHERE id = ?';

type Values = (string | number | null)[];

export interface Settled {
  /** Per settlement: whether it was ours to settle; null: another transaction has locked the row. */
  accepted: (boolean | null)[];
  erased: MailFacts[];
}

export class SettleBatch {
  readonly #connection: Connection;
  readonly #keep: KeepTimes & { suppressed?: SuppressionNotes };
  readonly #nowMs: number;
  readonly #rows = new Map<string, RowFacts>();
  readonly #mails = new Map<string, MailState>();
  /** Rows ('queue id destination') that have the fence of their settlement, but are locked by another transaction. */
  readonly #locked = new Set<string>();
  readonly #recipientUpdates: Values[] = [];
  readonly #rowUpdates: Values[] = [];

  constructor(connection: Connection, keep: KeepTimes & { suppressed?: SuppressionNotes }, nowMs: number) {
    this.#connection = connection;
    this.#keep = keep;
    this.#nowMs = nowMs;
  }

  async settle(settlements: readonly Settlement[]): Promise<Settled> {
    if (settlements.length === 0) return { accepted: [], erased: [] };
    await this.#lock(settlements);
    const accepted: (boolean | null)[] = [];
    for (const settlement of settlements) accepted.push(await this.#settleOne(settlement));
    const erased: MailFacts[] = [];
    const mailUpdates: Values[] = [];
    for (const [id, mail] of this.#mails) {
      if (mail.erased) erased.push(mail.facts);
      else if (mail.changed) mailUpdates.push([mail.openRows, mail.dead, mail.settledAtMs, id]);
    }
    const stays = (id: unknown): boolean => this.#mails.get(id as string)?.erased === false;
    await Promise.all([
      bulk(
        this.#connection,
        RECIPIENTS,
        this.#recipientUpdates.filter((values) => stays(values[3])),
      ),
      bulk(
        this.#connection,
        ROW,
        this.#rowUpdates.filter((values) => stays(values[8])),
      ),
      bulk(this.#connection, MAIL, mailUpdates),
    ]);
    await eraseMails(this.#connection, erased);
    const suppressed = settlements.flatMap((one, i) => (accepted[i] === true ? (one.suppressed ?? []) : []));
    if (suppressed.length > 0)
      await orderSuppressions(this.#connection, suppressed, this.#keep.suppressed ?? null);
    return { accepted, erased };
  }

  /**
   * Reads the rows with their mails, and locks them. Rows that another transaction has locked are left out: should its
   * node hang, it holds up these rows only.
   */
  async #lock(settlements: readonly Settlement[]): Promise<void> {
    const ids = [...new Set(settlements.map(({ queueId }) => queueId))].sort();
    const destinations = [...new Set(settlements.map(({ destination }) => destination))];
    // Two lists, because they are ranges of the key; a list of pairs is compared pair by pair (measured: 40 times
    // slower).
    const rows = await selectIn<RowFacts>(
      this.#connection,
      `SELECT ${MAIL_FACTS}, o.destination, o.fence, o.state, o.waiting, o.bounced, m.open_rows AS openRows, m.dead
       FROM mail_outbox o ${BY_KEY} STRAIGHT_JOIN mails m ON m.id = o.mail_id
       WHERE o.mail_id IN % AND o.destination IN ${marks(destinations.length)} ORDER BY o.mail_id FOR UPDATE SKIP LOCKED`,
      ids,
      destinations,
    );
    for (const row of rows) {
      this.#rows.set(`${row.id} ${row.destination}`, row);
      if (!this.#mails.has(row.id))
        this.#mails.set(row.id, {
          facts: row,
          openRows: row.openRows,
          dead: row.dead,
          settledAtMs: null,
          changed: false,
          erased: false,
        });
    }
    const missing = settlements.filter((one) => !this.#rows.has(`${one.queueId} ${one.destination}`));
    if (missing.length > 0) await this.#findLocked(missing);
  }

  /** Finds which of the rows that could not be locked exist and are still ours. */
  async #findLocked(missing: readonly Settlement[]): Promise<void> {
    const found = await selectIn<{ id: string; destination: string; fence: number }>(
      this.#connection,
      "SELECT mail_id AS id, destination, fence FROM mail_outbox WHERE mail_id IN % AND state = 'SENDING'",
      [...new Set(missing.map(({ queueId }) => queueId))],
    );
    const fences = new Map(found.map(({ id, destination, fence }) => [`${id} ${destination}`, fence]));
    for (const { queueId, destination, fence } of missing) {
      const key = `${queueId} ${destination}`;
      if (fences.get(key) === fence) this.#locked.add(key);
    }
  }

  /** @returns false when the row is not ours to settle any more. */
  async #settleOne(settlement: Settlement): Promise<boolean | null> {
    const key = `${settlement.queueId} ${settlement.destination}`;
    if (this.#locked.has(key)) return null;
    const row = this.#rows.get(key);
    if (row === undefined || row.state !== 'SENDING' || row.fence !== settlement.fence) return false;
    const mail = this.#mails.get(row.id) as MailState;
    let said = 0;
    for (const { seqs } of settlement.groups) said += seqs.length;
    // Mostly a result names every recipient that waited. If it does not, we count what it changes.
    const counts = said === row.waiting ? countByWord(settlement) : await this.#countByChange(settlement);
    if (said === row.waiting) this.#updateRecipients(settlement);
    const waiting = row.waiting - counts.settled;
    const bounced = row.bounced + counts.bounced;
    const values = settledRow(settlement, waiting, bounced, this.#nowMs);
    row.state = values[0] as string;
    this.#rowUpdates.push(values);
    if (waiting === 0) this.#close(mail, bounced > 0);
    return true;
  }

  #updateRecipients({ queueId, groups }: Settlement): void {
    for (const group of groups)
      for (const [first, last] of runsOf(group.seqs))
        this.#recipientUpdates.push([statusOf(group), group.reason, group.detail, queueId, first, last]);
  }

  async #countByChange({ queueId, groups }: Settlement): Promise<{ settled: number; bounced: number }> {
    const counts = { settled: 0, bounced: 0 };
    for (const group of groups)
      for (const [first, last] of runsOf(group.seqs)) {
        const values = [statusOf(group), group.reason, group.detail, queueId, first, last];
        const { affectedRows } = await this.#connection.execute<{ affectedRows: number }>(RECIPIENTS, values);
        if (group.kind !== 'deferred') counts.settled += affectedRows;
        if (group.kind === 'bounced') counts.bounced += affectedRows;
      }
    return counts;
  }

  /** The last recipient of a row was settled; with its last open row the mail itself is settled. */
  #close(mail: MailState, died: boolean): void {
    mail.openRows--;
    if (died) mail.dead = 1;
    mail.changed = true;
    if (mail.openRows > 0) return;
    if ((mail.dead === 1 ? this.#keep.keepFailedMs : this.#keep.keepDeliveredMs) === 0) mail.erased = true;
    else mail.settledAtMs = this.#nowMs;
  }
}

const statusOf = ({ kind }: SettleGroup): string => (kind === 'deferred' ? 'waiting' : kind);

function countByWord({ groups }: Settlement): { settled: number; bounced: number } {
  const counts = { settled: 0, bounced: 0 };
  for (const { kind, seqs } of groups) {
    if (kind !== 'deferred') counts.settled += seqs.length;
    if (kind === 'bounced') counts.bounced += seqs.length;
  }
  return counts;
}
