/**
 * A pause for what does not answer: after a call that failed the next ones fail at once for a while, longer each
 * time, so that whoever waits pays its time now and then and not every time.
 */
import type { WebHdfsFault } from './fault.ts';

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

export class Rest {
  #fault: WebHdfsFault | null = null;
  #untilMs = 0;
  #nextMs = FIRST_MS;

  /** Throws the fault that began the pause while it lasts. */
  check(): void {
    if (this.#fault !== null && performance.now() < this.#untilMs) throw this.#fault;
  }

  /** @returns whether this is the first failure after a success. */
  begin(fault: WebHdfsFault): boolean {
    const isFirst = this.#fault === null;
    this.#fault = fault;
    this.#untilMs = performance.now() + this.#nextMs;
    this.#nextMs = Math.min(LONGEST_MS, this.#nextMs * 2);
    return isFirst;
  }

  /** @returns whether there was a failure before. */
  end(): boolean {
    const was = this.#fault !== null;
    this.#fault = null;
    this.#nextMs = FIRST_MS;
    return was;
  }
}
