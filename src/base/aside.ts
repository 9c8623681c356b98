/**
 * The barrier around work beside the mail, on the main thread: periodic work, measurements, reactions to input from
 * outside. An error of ours ends only that piece of work; it is logged with its stack and counted, and the next round
 * tries again. A BrokenInvariant, which concerns what all share, is let pass and ends the process (base/crash.ts).
 */
import { BrokenInvariant } from './broken-invariant.ts';
import { CalmLog } from './calm-log.ts';
import type { Log } from './log.ts';

/** Work that is done every quarter of a second and fails each time must not fill the log. */
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
      },
    ]);
    this.#counted = counted;
  }

  /** Does the work at once. @param at what it is, for the log. @throws BrokenInvariant */
  now(at: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault(at, error);
    }
  }

  /** Resolves when the work is done, or failed; rejects with a BrokenInvariant only. */
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
