/** Counts what is in the queue, in bounded parts, because it shares its thread with the writer. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import {
  addStates,
  ageColumn,
  noSlice,
  packed,
  type StateRow,
  type StateSums,
  type StatsSlice,
} from '../../mail/queue-stats.ts';
import { SUSPECTED_POISON } from '../outbox-rows.ts';

/** How many entries are looked at in one go, with the rest of those of the last message; takes some milliseconds. */
const SLICE_ROWS = 5000;

export class Counter {
  readonly #first: StatementSync;
  readonly #end: StatementSync;
  readonly #states: StatementSync;
  readonly #destinations: StatementSync;
  readonly #mails: StatementSync;
  readonly #oldest: StatementSync;

  constructor(db: DatabaseSync) {
    const range = 'mail_id > ? AND mail_id <= ?';
    this.#first = db.prepare(
      'SELECT mail_id AS id FROM mail_outbox WHERE mail_id > ? ORDER BY mail_id LIMIT 1',
    );
    this.#end = db.prepare(
      `SELECT mail_id AS id FROM mail_outbox WHERE ${range} ORDER BY mail_id LIMIT 1 OFFSET ${SLICE_ROWS}`,
    );
    this.#states = db.prepare(
      `SELECT state, count(*) AS entries, count(DISTINCT mail_id) AS messages, sum(waiting) AS waiting,
         sum(bounced) AS bounced, sum(reason = '${SUSPECTED_POISON}') AS suspected
       FROM mail_outbox WHERE ${range} GROUP BY state`,
    );
    this.#destinations = db.prepare(
      `SELECT destination, state, count(*) AS entries, sum(waiting) AS recipients, min(due_at) AS dueMs
       FROM mail_outbox WHERE ${range} AND waiting > 0 GROUP BY destination, state`,
    );
    this.#mails = db.prepare(
      'SELECT count(*) AS mails, total(size_bytes) AS contentBytes FROM mails WHERE id > ? AND id <= ?',
    );
    this.#oldest = db.prepare(
      `SELECT received_at AS ms FROM mails WHERE id =
         (SELECT mail_id FROM mail_outbox WHERE ${range} AND waiting > 0 ORDER BY mail_id LIMIT 1)`,
    );
  }

  slice(after: string, nowMs: number): StatsSlice {
    const first = this.#first.get(after)?.id as string | undefined;
    if (first === undefined) return noSlice();
    const { age, until: columnEnd } = ageColumn(first, nowMs);
    const next = (this.#end.get(after, columnEnd ?? '~')?.id as string | undefined) ?? columnEnd;
    const range = [after, next ?? '~'] as const;
    const slice = { ...noSlice(), age, next };
    addStates(slice, this.#states.all(...range) as unknown as StateSums[]);
    const { mails, contentBytes } = this.#mails.get(...range) as { mails: number; contentBytes: number };
    const oldestMs = (this.#oldest.get(...range)?.ms as number | undefined) ?? null;
    const rows = this.#destinations.all(...range) as unknown as StateRow[];
    return { ...slice, mails, contentBytes, oldestMs, ...packed(rows) };
  }
}
