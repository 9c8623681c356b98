/** What came and went in the last minute: counters that events raise, sampled every few seconds. */

const SAMPLE_MS = 5000;
const SAMPLES = 12;

export interface Counts {
  acceptedMessages: number;
  /** Recipients. */
  accepted: number;
  delivered: number;
  deferred: number;
  bounced: number;
}

export interface Rates extends Counts {
  /** The time that these came and went in: a minute, less after the start. */
  ms: number;
}

const noCounts = (): Counts => ({ acceptedMessages: 0, accepted: 0, delivered: 0, deferred: 0, bounced: 0 });

export class MinuteRates {
  /** Since the start. */
  readonly counts = noCounts();
  readonly #steady: () => number;
  #samples: { atMs: number; counts: Counts }[];
  #timer: NodeJS.Timeout | null = null;

  constructor(steady: () => number) {
    this.#steady = steady;
    this.#samples = [{ atMs: steady(), counts: noCounts() }];
  }

  start(): void {
    this.#timer = setInterval(() => this.sample(), SAMPLE_MS).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  sample(): void {
    this.#samples.push({ atMs: this.#steady(), counts: { ...this.counts } });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
  }

  lastMinute(): Rates {
    const { atMs, counts: then } = this.#samples[0] as { atMs: number; counts: Counts };
    const now = this.counts;
    return {
      ms: Math.round(this.#steady() - atMs),
      acceptedMessages: now.acceptedMessages - then.acceptedMessages,
      accepted: now.accepted - then.accepted,
      delivered: now.delivered - then.delivered,
      deferred: now.deferred - then.deferred,
      bounced: now.bounced - then.bounced,
    };
  }
}
