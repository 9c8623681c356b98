/** Drops settled mails whose time for inspection is over. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { KeepTimes } from '../database.ts';
import { MAIL_FACTS, type MailEraser, type MailFacts } from './erase.ts';

export class Purger {
  readonly #db: DatabaseSync;
  readonly #eraser: MailEraser;
  readonly #keep: KeepTimes;
  readonly #settled: StatementSync;

  constructor(db: DatabaseSync, eraser: MailEraser, keep: KeepTimes) {
    this.#db = db;
    this.#eraser = eraser;
    this.#keep = keep;
    this.#settled = db.prepare(
      `SELECT ${MAIL_FACTS} FROM mails m INDEXED BY mails_settled WHERE dead = ? AND settled_at <= ? ORDER BY settled_at LIMIT ?`,
    );
  }

  /** @returns how many mails were dropped, at most `limit`. */
  purge(nowMs: number, limit: number): number {
    const sent = this.#settled.all(0, nowMs - this.#keep.keepSentMs, limit) as unknown as MailFacts[];
    const dead = this.#settled.all(
      1,
      nowMs - this.#keep.keepDeadMs,
      limit - sent.length,
    ) as unknown as MailFacts[];
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
