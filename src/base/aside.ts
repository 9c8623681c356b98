/**
 * The barrier around work beside the mail, on the main thread: rounds, measurements, what foreign input sets off. An error of
 * ours there ends that piece of work, is logged with its stack and counted; the next round is a new try. What all share is
 * another matter: a BrokenInvariant passes, and ends the process (base/crash.ts).
 */
import { BrokenInvariant } from './broken-invariant.ts';
import { CalmLog } from './calm-log.ts';
import type { Log } from './log.ts';

/** A round of a quarter of a second that fails each time must not fill the log. */
const LINES_PER_SECOND = 1;

export class Aside {
  readonly #log: Log;
  readonly #counted: () => void;

  constructor(log: Log, counted: () => void = () => {}) {
    this.#log = new CalmLog(log, [
      {
        event: 'relay.fault',
        linesPerSecond: LINES_PER_SECOND,
        kind: 'at',
        rest: { event: 'relay.faults-not-logged', lines: 'faults', kinds: 'at' },
      },
    ]);
    this.#counted = counted;
  }

  /** Does it, at once. @throws BrokenInvariant */
  now(at: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault(at, error);
    }
  }

  /** Resolves when it is done, or failed; rejects with a BrokenInvariant only. */
  async later(at: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#fault(at, error);
    }
  }

  #fault(at: string, error: unknown): void {
    if (error instanceof BrokenInvariant) throw error;
    this.#counted();
    this.#log.error('relay.fault', { at, error });
  }
}
