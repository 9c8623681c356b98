/** What start-up does to the rows of the life before: it gives back leases, and keys rows by today's route table. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { fingerprint, type RouteTable, SMARTHOST, storedDestination } from '../../mail/destination.ts';
import { isOperatorKey } from '../../mail/operator-keys.ts';
import type { LeasedKey } from '../database.ts';
import { configuredKey, movedOf } from '../moving.ts';
import { Mover } from './move.ts';

const SLICE_ROWS = 5000;
const EXPIRED_ROWS = 1000;

/** States of rows that are keyed anew; settled rows keep the destination they were sent to. */
const OPEN = "('PENDING','RETRY','HELD')";

interface Key {
  id: string;
  destination: string;
}

export class Recovery {
  readonly #db: DatabaseSync;
  readonly #state: StatementSync;
  readonly #setState: StatementSync;
  readonly #open: StatementSync;
  readonly #rename: StatementSync;
  readonly #mover: Mover;
  readonly #expired: StatementSync;
  readonly #expire: StatementSync;
  readonly #renew: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#state = db.prepare("SELECT value FROM relay_state WHERE name = 'routes'");
    this.#setState = db.prepare(
      "INSERT INTO relay_state VALUES ('routes', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    );
    this.#open = db.prepare(
      `SELECT mail_id AS id, destination FROM mail_outbox WHERE (mail_id, destination) > (?, ?) AND state IN ${OPEN}
       ORDER BY mail_id, destination LIMIT ${SLICE_ROWS}`,
    );
    this.#rename = db.prepare(
      'UPDATE OR IGNORE mail_outbox SET destination = ? WHERE mail_id = ? AND destination = ?',
    );
    this.#mover = new Mover(db);
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
      const rows = this.#open.all(after.id, after.destination) as unknown as Key[];
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
      after = rows.at(-1) as Key;
    }
  }

  #rekeyRow({ id, destination }: Key, routes: RouteTable): boolean {
    // What an operator rerouted, or is ending, keeps its key.
    if (isOperatorKey(destination)) return false;
    // All recipients of a domain's row go the same way, and nearly always the mail has no row at the new destination.
    if (destination !== SMARTHOST) {
      const key = storedDestination(destination, routes);
      if (key === destination) return false;
      if (this.#rename.run(key, id, destination).changes === 1) return true;
    }
    // Another row of this mail may have been merged into this one since it was read.
    const row = this.#mover.row(id, destination);
    if (row === undefined) return false;
    const keyOf = ({ domain }: { domain: string }): string => configuredKey(domain, routes);
    const moved = movedOf(row, this.#mover.recipients(row), keyOf);
    if (moved.size === 0) return false;
    this.#mover.write(row, moved);
    return true;
  }
}
