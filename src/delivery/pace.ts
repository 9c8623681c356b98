/**
 * A pause after a host said that it gets too much: nothing begins until it is over. The next one lasts twice as long,
 * unless all went well for as long as the last one was. What waits stays where it is, because the pause is short.
 */

import type { ReplyScope } from '../mail/verdict.ts';

const FIRST_MS = 1000;
const LONGEST_MS = 30_000;
/** What is about certain mail (a domain in it, its signature) is no reason to hold back all that goes there. */
const OF_ALL_MAIL: ReadonlySet<ReplyScope> = new Set([
  'source',
  'netblock',
  'destination',
  'recipient_domain',
]);

export class Pace {
  #untilMs = 0;
  #lastsMs = 0;

  holds(nowMs: number): boolean {
    return nowMs < this.#untilMs;
  }

  /** Replies to what was sent before the pause do not make it longer. @param scope what is slowed down. */
  slowDown(scope: ReplyScope, nowMs: number): void {
    if (this.holds(nowMs) || !OF_ALL_MAIL.has(scope)) return;
    const isNew = this.#lastsMs === 0 || nowMs - this.#untilMs > this.#lastsMs;
    this.#lastsMs = isNew ? FIRST_MS : Math.min(2 * this.#lastsMs, LONGEST_MS);
    this.#untilMs = nowMs + this.#lastsMs;
  }
}
