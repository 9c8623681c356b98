/** Drops settled mails whose time for inspection is over. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { KeepTimes } from '../database.ts';
import {
  type FailedLimits,
  type FailedMark,
  type FailedSlice,
  failedSlice,
  KEPT_FAILED_ROWS,
  later,
  NEWEST,
} from '../kept-failed.ts';
import { MAIL_FACTS, type MailEraser, type MailFacts } from './erase.ts';

export class Purger {
  readonly #db: DatabaseSync;
  readonly #eraser: MailEraser;
  readonly #keep: KeepTimes;
  readonly #settled: StatementSync;
  readonly #newest: StatementSync;

  constructor(db: DatabaseSync, eraser: MailEraser, keep: KeepTimes) {
    this.#db = db;
    this.#eraser = eraser;
    this.#keep = keep;
    this.#settled = db.prepare(
      `SELECT ${MAIL_FACTS} FROM mails m INDEXED BY mails_settled WHERE dead = ? AND settled_at <= ?
         AND (settled_at < ? OR id <= ?) ORDER BY settled_at, id LIMIT ?`,
    );
    this.#newest = db.prepare(
      `SELECT id, settled_at AS settledAtMs, size_bytes AS sizeBytes FROM mails INDEXED BY mails_settled
       WHERE dead = 1 AND settled_at <= ? AND (settled_at < ? OR id < ?) ORDER BY settled_at DESC, id DESC LIMIT ?`,
    );
  }

  failedSlice(left: FailedLimits, before: FailedMark | null): FailedSlice {
    const { settledAtMs, queueId } = before ?? NEWEST;
    const rows = this.#newest.all(settledAtMs, settledAtMs, queueId, KEPT_FAILED_ROWS);
    return failedSlice(rows as unknown as Parameters<typeof failedSlice>[0], left);
  }

  /** @param cut of the failed mails, this one and all that are older go. @returns how many mails were dropped, at most `limit`. */
  purge(nowMs: number, limit: number, cut: FailedMark | null): number {
    const settled = (dead: 0 | 1, { settledAtMs, queueId }: FailedMark, most: number): MailFacts[] =>
      this.#settled.all(dead, settledAtMs, settledAtMs, queueId, most) as unknown as MailFacts[];
    const sent = settled(0, { settledAtMs: nowMs - this.#keep.keepDeliveredMs, queueId: '~' }, limit);
    const over = { settledAtMs: nowMs - this.#keep.keepFailedMs, queueId: '~' };
    const dead = settled(1, later(over, cut), limit - sent.length);
    if (sent.length + dead.length === 0) return 0;
    this.#eraser.begin();
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const mail of sent) this.#eraser.erase(mail);
      for (const mail of dead) this.#eraser.erase(mail);
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
    return sent.length + dead.length;
  }
}
