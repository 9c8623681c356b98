/** Leases due rows of one destination to this node and loads what is needed to attempt them. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { RelayError } from '../../base/errors.ts';
import type { Job, JobRecipient } from '../../mail/job.ts';
import { queueIdAt } from '../../mail/queue-id.ts';
import { type Arena, NO_CONTENT } from '../../native.ts';
import type { Storage } from '../../storage/storage.ts';
import type { ClaimRequest, ClaimResult } from '../database.ts';
import { type AttemptRow, jobOf, MAIL_ROW, type MailRow } from '../mail-rows.ts';
import { UNREAD } from '../outbox-rows.ts';
import { parseRuns } from '../seq-runs.ts';
import { contentRef, MAIL_FACTS, type MailFacts } from './erase.ts';

interface DueRow extends MailRow, MailFacts, AttemptRow {
  seqs: string;
  waiting: number;
}

interface Unread {
  id: string;
  detail: string;
  temporary: boolean;
}

/** Up to this many runs of recipients are queried one by one; more are read as one range and filtered, which is cheaper. */
const RUNS_QUERIED = 16;
/** Pause before a row is tried again whose content could not be read. */
const UNREADABLE_RETRY_MS = 60_000;
/** A claim leaves 1/n of the memory for content free. */
const RESERVE_SHARE = 8;

export class Claimer {
  readonly #db: DatabaseSync;
  readonly #storage: Storage;
  readonly #arena: Arena;
  readonly #due: StatementSync;
  readonly #old: StatementSync;
  readonly #recipients: StatementSync;
  readonly #lease: StatementSync;
  readonly #setAside: StatementSync;
  readonly #putOff: StatementSync;
  readonly #nextDue: StatementSync;

  constructor(db: DatabaseSync, storage: Storage, arena: Arena) {
    this.#db = db;
    this.#storage = storage;
    this.#arena = arena;
    const row = `SELECT ${MAIL_FACTS}, ${MAIL_ROW}, o.seqs, o.attempts, o.fence, o.waiting, o.delay_notified AS delayNotified, o.deaths,
      o.operator_text AS operatorText`;
    this.#due = db.prepare(
      `${row} FROM mail_outbox o INDEXED BY outbox_due CROSS JOIN mails m ON m.id = o.mail_id
       WHERE o.destination = ? AND o.due_at <= ? ORDER BY o.due_at LIMIT ?`,
    );
    // By the key: there are few messages that are so old, and any number for the destination.
    this.#old = db.prepare(
      `${row} FROM mail_outbox o NOT INDEXED CROSS JOIN mails m ON m.id = o.mail_id
       WHERE o.mail_id < ? AND o.destination = ? AND o.due_at <= ? ORDER BY o.mail_id LIMIT ?`,
    );
    this.#recipients = db.prepare(
      `SELECT seq, address, notify, orcpt FROM mail_recipients
       WHERE mail_id = ? AND seq BETWEEN ? AND ? AND status = 'waiting'`,
    );
    this.#lease = db.prepare(
      `UPDATE mail_outbox SET state = 'SENDING', due_at = NULL, fence = ?, lease_owner = ?, lease_until = ?
       WHERE mail_id = ? AND destination = ?`,
    );
    this.#setAside = db.prepare(
      `UPDATE mail_outbox SET state = 'HELD', due_at = NULL, reason = '${UNREAD}', detail = ?
       WHERE mail_id = ? AND destination = ?`,
    );
    this.#putOff = db.prepare(
      `UPDATE mail_outbox SET due_at = ?, reason = '${UNREAD}', detail = ?
       WHERE mail_id = ? AND destination = ?`,
    );
    this.#nextDue = db.prepare(
      'SELECT due_at FROM mail_outbox WHERE destination = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT 1',
    );
  }

  /** @param owner written to the leases, so that those of an interrupted claim can be found again. */
  async claim(request: ClaimRequest, owner: string): Promise<ClaimResult> {
    const { destination } = request;
    const rows = this.#dueRows(request);
    const jobs: Job[] = [];
    const missing: Unread[] = [];
    let short = false;
    let recipients = 0;
    try {
      for (const row of rows) {
        if (jobs.length > 0 && recipients + row.waiting > request.maxRecipients) break;
        // The rest of the memory is for new mail.
        if (jobs.length > 0 && this.#arena.freeBytes() < this.#arena.totalBytes / RESERVE_SHARE) {
          short = true;
          break;
        }
        const content = await this.#load(row, missing);
        if (content === null) continue;
        if (content === NO_CONTENT) {
          short = true;
          break;
        }
        recipients += row.waiting;
        jobs.push(jobOf(row, row, destination, this.#jobRecipients(row), content));
      }
      // The storage as a whole may be in trouble: a pause before more rows are put off.
      if (jobs.length === 0 && missing.length > 0) short = true;
      const nextDueMs =
        jobs.length + missing.length > 0
          ? this.#write(request, owner, jobs, missing)
          : this.#nextDueMs(destination);
      const asideRows = missing.filter(({ temporary }) => !temporary).length;
      return { jobs, nextDueMs, short, asideRows };
    } catch (error) {
      for (const job of jobs) this.#arena.release(job.content);
      throw error;
    }
  }

  #dueRows({ destination, nowMs, limit, receivedBeforeMs }: ClaimRequest): DueRow[] {
    const rows =
      receivedBeforeMs === undefined
        ? this.#due.all(destination, nowMs, limit)
        : this.#old.all(queueIdAt(receivedBeforeMs), destination, nowMs, limit);
    return rows as unknown as DueRow[];
  }

  #nextDueMs(destination: string): number | null {
    return (this.#nextDue.get(destination)?.due_at as number | undefined) ?? null;
  }

  /**
   * Loads the content; null when it cannot be read. If it never can be, the row waits for an operator, else for a
   * while: one file on a bad sector must not hold up everything queued behind it.
   */
  async #load(row: DueRow, missing: Unread[]): Promise<number | null> {
    try {
      return await this.#storage.load(contentRef(row));
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      if (error.temporary && error.code !== 'storage_unavailable') throw error;
      missing.push({ id: row.id, detail: error.message, temporary: error.temporary });
      return null;
    }
  }

  /**
   * Writes the leases. Nothing may fail after the commit, or nobody would know of them: so the next due time is read
   * before.
   */
  #write(request: ClaimRequest, owner: string, jobs: Job[], missing: Unread[]): number | null {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const job of jobs)
        this.#lease.run(job.fence, owner, request.leaseUntilMs, job.queueId, request.destination);
      for (const { id, detail, temporary } of missing)
        if (temporary) this.#putOff.run(request.nowMs + UNREADABLE_RETRY_MS, detail, id, request.destination);
        else this.#setAside.run(detail, id, request.destination);
      const nextDueMs = this.#nextDueMs(request.destination);
      this.#db.exec('COMMIT');
      return nextDueMs;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  #jobRecipients(row: DueRow): JobRecipient[] {
    const recipients: JobRecipient[] = [];
    const runs = parseRuns(row.seqs);
    const whole = runs.length > RUNS_QUERIED;
    const wanted = whole
      ? new Set(
          runs.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i)),
        )
      : null;
    const ranges = whole ? [[runs[0]?.[0] as number, runs.at(-1)?.[1] as number] as const] : runs;
    for (const [first, last] of ranges)
      for (const found of this.#recipients.all(row.id, first, last)) {
        if (wanted !== null && !wanted.has(found.seq as number)) continue;
        const recipient: JobRecipient = {
          seq: found.seq as number,
          address: found.address as string,
          notify: found.notify as number,
        };
        if (found.orcpt !== null) recipient.orcpt = found.orcpt as string;
        recipients.push(recipient);
      }
    return recipients;
  }
}
