/** Mail that found no copy of its content goes on as soon as the storage is back. Part of the composition root. */
import type { Log } from '../base/log.ts';
import type { Database } from '../database/database.ts';
import { unread } from '../database/outbox-rows.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

export interface ReturnedContentPorts {
  database: Pick<Database, 'operate'>;
  scheduler: Pick<Scheduler, 'changed'>;
  log: Log;
}

export class ReturnedContent {
  readonly #ports: ReturnedContentPorts;
  #running = false;
  /** A root returned after the rows were looked at. */
  #again = false;

  constructor(ports: ReturnedContentPorts) {
    this.#ports = ports;
  }

  /** Looks for the rows that can go on. However many roots return together, the rows are looked at twice at most. */
  async wake(): Promise<void> {
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    const { log } = this.#ports;
    try {
      while (this.#again) {
        this.#again = false;
        const rows = (await this.#make('release')) + (await this.#make('flush'));
        if (rows > 0) log.info('queue.content_returned', { entries: rows });
      }
    } catch (error) {
      // Rows that were put off become due by themselves; rows that are held wait for the next return, or for an
      // operator.
      log.warn('queue.wake_failed', { error });
    } finally {
      this.#running = false;
    }
  }

  async #make(action: 'release' | 'flush'): Promise<number> {
    const { database, scheduler } = this.#ports;
    const nowMs = Date.now();
    // By part: what was changed before a fault stays changed.
    const { rows } = await database.operate(action, unread(nowMs), nowMs, ({ changes }) =>
      scheduler.changed(changes),
    );
    return rows;
  }
}
