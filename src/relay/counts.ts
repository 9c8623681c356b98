/**
 * Counts of the queue for `protorelay status`, which must not wait for them: taken when somebody asks, so seldom that a
 * large queue costs little, and answered with their age. Part of the composition root.
 */
import { within } from '../base/within.ts';
import type { CountedQueue } from '../control/target.ts';
import type { QueueStats } from '../mail/queue-stats.ts';

/** A count is good for so long, and for so many times as long as it took. */
const GOOD_MS = 1000;
const REST = 20;
/** How long an answer waits for a count that was begun for it. */
const PATIENCE_MS = 20;

export interface CountsPorts {
  count(): Promise<QueueStats>;
  /** The time of day. */
  now(): number;
  steady(): number;
}

export class QueueCounts {
  readonly #ports: CountsPorts;
  #latest: CountedQueue | null = null;
  #counting: Promise<void> | null = null;
  #goodUntilMs = 0;

  constructor(ports: CountsPorts) {
    this.#ports = ports;
  }

  /** The latest counts; null: there are none yet. */
  async read(): Promise<CountedQueue | null> {
    if (this.#ports.steady() >= this.#goodUntilMs) this.refresh();
    if (this.#counting !== null) await within(PATIENCE_MS, this.#counting);
    return this.#latest;
  }

  /** Begins to count, unless that is under way. */
  refresh(): void {
    this.#counting ??= this.#count().finally(() => {
      this.#counting = null;
    });
  }

  async #count(): Promise<void> {
    const { count, now, steady } = this.#ports;
    const begunMs = steady();
    try {
      const { rows, messages, recipients, oldestMs } = await count();
      this.#latest = { countedAtMs: now(), rows, messages, recipients, oldestMs };
    } catch {
      // The queue is away: the status says so, and the latest counts stand with their age.
    }
    const tookMs = steady() - begunMs;
    this.#goodUntilMs = steady() + Math.max(GOOD_MS, tookMs * REST);
  }
}
