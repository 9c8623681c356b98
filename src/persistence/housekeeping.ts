/** Regular work on the queue: drops rows past their time, and does whatever else the relay hands in. */
import type { Log } from '../base/log.ts';
import type { Database } from '../database/database.ts';
import type { FailedLimits } from '../database/kept-failed.ts';

/** Mails purged in one transaction: a bounded pause for new mail. */
const PURGE_MAILS = 500;

export interface HousekeepingPorts {
  database: Pick<Database, 'purge'>;
  /** Asked before each pause, because a reload may change it. */
  intervalMs(): number;
  /** How much of what failed is kept; a reload may change it, too. */
  keep(): FailedLimits;
  /** Called after each purge. */
  also(): Promise<unknown>;
  log: Log;
}

/** Drops all rows past their time. @param enough asked before each transaction; true ends the purge. */
export async function purgeAll(
  database: Pick<Database, 'purge'>,
  enough: () => boolean = () => false,
  keep?: FailedLimits,
): Promise<void> {
  while (!enough() && (await database.purge(Date.now(), PURGE_MAILS, keep)) >= PURGE_MAILS);
}

export class Housekeeping {
  readonly #ports: HousekeepingPorts;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(ports: HousekeepingPorts) {
    this.#ports = ports;
  }

  start(): void {
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#run(), this.#ports.intervalMs()).unref();
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    const { database, log } = this.#ports;
    try {
      await purgeAll(database, () => this.#stopped, this.#ports.keep());
      await this.#ports.also();
    } catch (error) {
      log.warn('queue.purge_failed', { error });
    }
    this.start();
  }
}
