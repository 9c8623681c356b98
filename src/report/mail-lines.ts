/**
 * Copies events into the log as lines of a mail log (`log.mail`). A log is read and shipped by others, and mail may come
 * faster than they go: what is beyond the limit of a second is left out, counted and said. The event files have it.
 */
import type { Log } from '../base/log.ts';
import { eventText } from './event-text.ts';
import type { DeliveryEvent } from './event-types.ts';

export const MAX_LINES_PER_SECOND = 5000;

const NAMES = {
  accepted: 'mail.accepted',
  delivered: 'mail.delivered',
  deferred: 'mail.deferred',
  bounced: 'mail.bounced',
  expired: 'mail.expired',
  suppressed: 'mail.suppressed',
  discarded: 'mail.discarded',
  removed: 'mail.removed',
  held: 'mail.held',
} as const;

export class MailLines {
  readonly #log: Log;
  readonly #now: () => number;
  #second = 0;
  #lines = 0;
  #left = 0;

  constructor(log: Log, now: () => number) {
    this.#log = log;
    this.#now = now;
  }

  /** @param line as it is in the event file. */
  copy(line: string): void {
    const second = Math.floor(this.#now() / 1000);
    if (second !== this.#second) {
      this.end();
      this.#second = second;
      this.#lines = 0;
    }
    if (++this.#lines > MAX_LINES_PER_SECOND) {
      this.#left++;
      return;
    }
    const event = JSON.parse(line) as Exclude<
      DeliveryEvent,
      { type: 'dropped' | 'limit_changed' | 'source_state' | 'async_bounced' | 'complained' }
    >;
    this.#log.info(NAMES[event.type], { queue_id: event.queue_id, line: eventText({ ...event }) });
  }

  /** Says what was left out. */
  end(): void {
    if (this.#left > 0) this.#log.warn('mail.not_logged', { lines: this.#left });
    this.#left = 0;
  }
}
