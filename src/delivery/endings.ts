/** The end of attempts: settles each, and those whose report found no memory a little later. */
import type { Attempt } from './attempt.ts';
import { internal } from './outcome.ts';
import type { Settler } from './settle.ts';

export interface EndingsPorts {
  settler: Settler;
  /** Notes the attempt as under way: making its DSN may end the process, too. */
  begun(attempt: Attempt): void;
  rests(attempt: Attempt): void;
  /** Counts a program error. @throws what concerns all attempts. */
  fault(destination: string, at: string, error: unknown): void;
  outside(work: () => void): void;
  setTimer(ms: number, fire: () => void): void;
}

/** How often results that wait for memory try again. */
const MEMORY_RETRY_MS = 50;

export class Endings {
  readonly #ports: EndingsPorts;
  #waits = false;

  constructor(ports: EndingsPorts) {
    this.#ports = ports;
  }

  /** Ends an attempt. Throws only what concerns all attempts, so the caller may go on with others. */
  finish(attempt: Attempt): void {
    const { settler } = this.#ports;
    this.#ports.begun(attempt);
    try {
      settler.finish(attempt);
    } catch (error) {
      this.#ports.fault(attempt.job.destination, 'settle', error);
      if (!attempt.ended) settler.finishPlainly(attempt, internal('settle'));
    }
    this.#ports.rests(attempt);
    if (settler.waiting > 0 && !this.#waits) this.#waitForMemory();
  }

  #waitForMemory(): void {
    const { settler, setTimer, outside, fault } = this.#ports;
    this.#waits = true;
    setTimer(MEMORY_RETRY_MS, () => {
      this.#waits = false;
      outside(() => {
        try {
          settler.retryWaiting();
        } catch (error) {
          fault('', 'settle', error);
        }
        if (settler.waiting > 0) this.#waitForMemory();
      });
    });
  }
}
