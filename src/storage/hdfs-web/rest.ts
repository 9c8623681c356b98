/**
 * A pause after calls that nobody answered: for a while the next calls fail at once, each time for longer. So callers
 * wait for a dead cluster only now and then, and not at every call.
 */
import type { WebHdfsFault } from './fault.ts';

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

export class Rest {
  #fault: WebHdfsFault | null = null;
  #untilMs = 0;
  #nextMs = FIRST_MS;

  /** While a pause lasts, throws the fault that began it. */
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
