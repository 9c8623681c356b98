/** What start-up does to the rows of the life before: it gives back leases, and keys rows by today's route table. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { fingerprint, type RouteTable, SMARTHOST, storedDestination } from '../../mail/destination.ts';
import type { LeasedKey } from '../database.ts';
import { parseRuns, type Run, runsOf, seqsText } from '../seq-runs.ts';

const SLICE_ROWS = 5000;
const EXPIRED_ROWS = 1000;

/** States of rows that are keyed anew; settled rows keep the destination they were sent to. */
const OPEN = "('PENDING','RETRY','HELD')";

interface Row {
  id: string;
  destination: string;
  state: string;
  dueAt: number | null;
  attempts: number;
  fence: number;
  seqs: string;
  waiting: number;
  bounced: number;
  delayNotified: number;
  reason: string;
  detail: string;
}

export class Recovery {
  readonly #db: DatabaseSync;
  readonly #state: StatementSync;
  readonly #setState: StatementSync;
  readonly #open: StatementSync;
  readonly #rename: StatementSync;
  readonly #row: StatementSync;
  readonly #recipients: StatementSync;
  readonly #insert: StatementSync;
  readonly #merge: StatementSync;
  readonly #keepSettled: StatementSync;
  readonly #delete: StatementSync;
  readonly #openRows: StatementSync;
  readonly #expired: StatementSync;
  readonly #expire: StatementSync;
  readonly #renew: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#state = db.prepare("SELECT value FROM relay_state WHERE name = 'routes'");
    this.#setState = db.prepare(
      "INSERT INTO relay_state VALUES ('routes', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    );
    const columns = `mail_id AS id, destination, state, due_at AS dueAt, attempts, fence, seqs, waiting, bounced,
      delay_notified AS delayNotified, reason, detail`;
    this.#open = db.prepare(
      `SELECT ${columns} FROM mail_outbox WHERE (mail_id, destination) > (?, ?) AND state IN ${OPEN}
       ORDER BY mail_id, destination LIMIT ${SLICE_ROWS}`,
    );
    this.#rename = db.prepare(
      'UPDATE OR IGNORE mail_outbox SET destination = ? WHERE mail_id = ? AND destination = ?',
    );
    this.#row = db.prepare(`SELECT ${columns} FROM mail_outbox WHERE mail_id = ? AND destination = ?`);
    this.#recipients = db.prepare(
      'SELECT seq, domain, status FROM mail_recipients WHERE mail_id = ? AND seq BETWEEN ? AND ?',
    );
    this.#insert = db.prepare(
      `INSERT INTO mail_outbox (mail_id, destination, state, due_at, attempts, fence, seqs, waiting, bounced, delay_notified, reason, detail)
       VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
    );
    this.#merge = db.prepare(
      `UPDATE mail_outbox SET state = ?, due_at = ?, attempts = ?, fence = ?, seqs = ?, waiting = ?, bounced = ?, delay_notified = ?
       WHERE mail_id = ? AND destination = ?`,
    );
    this.#keepSettled = db.prepare(
      `UPDATE mail_outbox SET state = iif(bounced > 0, 'DEAD', 'SENT'), due_at = NULL, seqs = ?, waiting = 0
       WHERE mail_id = ? AND destination = ?`,
    );
    this.#delete = db.prepare('DELETE FROM mail_outbox WHERE mail_id = ? AND destination = ?');
    this.#openRows = db.prepare(
      `UPDATE mails SET open_rows = (SELECT count(*) FROM mail_outbox WHERE mail_id = mails.id
         AND state NOT IN ('SENT', 'DEAD')),
         dead = max(dead, (SELECT coalesce(max(bounced > 0), 0) FROM mail_outbox WHERE mail_id = mails.id))
       WHERE id = ?`,
    );
    this.#expired = db.prepare(
      `SELECT mail_id AS id, destination FROM mail_outbox INDEXED BY outbox_leases
       WHERE lease_until <= ? LIMIT ${EXPIRED_ROWS}`,
    );
    this.#expire = db.prepare(
      `UPDATE mail_outbox SET state = 'PENDING', due_at = ?, lease_owner = NULL, lease_until = NULL
       WHERE mail_id = ? AND destination = ? AND state = 'SENDING'`,
    );
    this.#renew = db.prepare(
      `UPDATE mail_outbox SET lease_until = ? WHERE mail_id = ? AND destination = ? AND state = 'SENDING'`,
    );
  }

  /**
   * Gives back leases. Nobody else writes this file, so every SENDING row was ours, whatever name we had.
   * @param owner gives back only leases of this owner: those of an interrupted claim.
   */
  releaseLeases(nowMs: number, owner?: string): number {
    const sql = `UPDATE mail_outbox SET state = 'PENDING', due_at = ?, lease_owner = NULL, lease_until = NULL
      WHERE state = 'SENDING' AND (? IS NULL OR lease_owner = ?)`;
    return Number(this.#db.prepare(sql).run(nowMs, owner ?? null, owner ?? null).changes);
  }

  /**
   * Rows whose lease ended become due again; at most EXPIRED_ROWS a call.
   * @returns their destinations.
   */
  releaseExpired(nowMs: number): string[] {
    const rows = this.#expired.all(nowMs);
    if (rows.length === 0) return [];
    this.#db.exec('BEGIN IMMEDIATE');
    for (const { id, destination } of rows) this.#expire.run(nowMs, id as string, destination as string);
    this.#db.exec('COMMIT');
    return [...new Set(rows.map(({ destination }) => destination as string))];
  }

  /** @returns how many of the rows are still being sent. */
  renewLeases(rows: readonly LeasedKey[], leaseUntilMs: number): number {
    let renewed = 0;
    this.#db.exec('BEGIN IMMEDIATE');
    for (const { queueId, destination } of rows)
      renewed += Number(this.#renew.run(leaseUntilMs, queueId, destination).changes);
    this.#db.exec('COMMIT');
    return renewed;
  }

  /** Keys waiting rows by `routes`, in bounded transactions. Costs nothing when the table is that of the last start. */
  rekey(routes: RouteTable): number {
    const wanted = fingerprint(routes);
    if (this.#state.get()?.value === wanted) return 0;
    let rekeyed = 0;
    let after = { id: '', destination: '' };
    for (;;) {
      const rows = this.#open.all(after.id, after.destination) as unknown as Row[];
      this.#db.exec('BEGIN IMMEDIATE');
      try {
        for (const row of rows) if (this.#rekeyRow(row, routes)) rekeyed++;
        if (rows.length < SLICE_ROWS) this.#setState.run(wanted);
        this.#db.exec('COMMIT');
      } catch (error) {
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
        throw error;
      }
      if (rows.length < SLICE_ROWS) return rekeyed;
      after = rows.at(-1) as Row;
    }
  }

  #rekeyRow(found: Row, routes: RouteTable): boolean {
    // All recipients of a domain's row go the same way, and nearly always the mail has no row at the new destination.
    if (found.destination !== SMARTHOST) {
      const destination = storedDestination(found.destination, routes);
      if (destination === found.destination) return false;
      if (this.#rename.run(destination, found.id, found.destination).changes === 1) return true;
    }
    // Another row of this mail may have been merged into this one since it was read.
    const row = this.#row.get(found.id, found.destination) as unknown as Row | undefined;
    if (row === undefined) return false;
    const byDestination = new Map<string, number[]>();
    const settled: number[] = [];
    for (const run of parseRuns(row.seqs)) this.#sort(row.id, run, routes, byDestination, settled);
    if (byDestination.size === 1 && byDestination.has(row.destination)) return false;
    const stays = byDestination.get(row.destination);
    byDestination.delete(row.destination);
    if (stays !== undefined)
      this.#merge.run(
        row.state,
        row.dueAt,
        row.attempts,
        row.fence,
        seqsText([...stays, ...settled]),
        stays.length,
        row.bounced,
        row.delayNotified,
        row.id,
        row.destination,
      );
    else if (settled.length > 0) this.#keepSettled.run(seqsText(settled), row.id, row.destination);
    else this.#delete.run(row.id, row.destination);
    for (const [destination, seqs] of byDestination) this.#add(row, destination, seqs);
    this.#openRows.run(row.id);
    return true;
  }

  #sort(
    id: string,
    run: Run,
    routes: RouteTable,
    byDestination: Map<string, number[]>,
    settled: number[],
  ): void {
    for (const { seq, domain, status } of this.#recipients.all(id, run[0], run[1])) {
      if (status !== 'waiting') {
        settled.push(seq as number);
        continue;
      }
      const destination = storedDestination(domain as string, routes);
      const seqs = byDestination.get(destination);
      if (seqs) seqs.push(seq as number);
      else byDestination.set(destination, [seq as number]);
    }
  }

  /** Moves recipients to a destination: into a new row, or into the row that the mail has there. */
  #add(from: Row, destination: string, seqs: number[]): void {
    const there = this.#row.get(from.id, destination) as unknown as Row | undefined;
    if (there === undefined) {
      this.#insert.run(
        from.id,
        destination,
        from.state,
        from.dueAt,
        from.attempts,
        from.fence,
        seqsText(seqs),
        seqs.length,
        0,
        from.delayNotified,
        from.reason,
        from.detail,
      );
      return;
    }
    const all = runsOf([...seqs, ...parseRuns(there.seqs).flatMap(([first, last]) => range(first, last))]);
    const open = there.waiting > 0;
    // If either row was held, the result is held; else it has the earlier due time and the greater number of attempts.
    const held = from.state === 'HELD' || (open && there.state === 'HELD');
    const dueAt = Math.min(
      from.dueAt ?? Number.MAX_SAFE_INTEGER,
      (open ? there.dueAt : null) ?? Number.MAX_SAFE_INTEGER,
    );
    this.#merge.run(
      held ? 'HELD' : open && there.state === 'RETRY' ? 'RETRY' : from.state,
      held ? null : dueAt,
      Math.max(from.attempts, there.attempts),
      Math.max(from.fence, there.fence),
      all.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(','),
      there.waiting + seqs.length,
      there.bounced,
      Math.max(from.delayNotified, there.delayNotified),
      from.id,
      destination,
    );
  }
}

const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);
