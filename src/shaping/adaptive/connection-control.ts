/**
 * How many connections the peer bears, learned from its refusals: halved by each, one more after half a minute of success. There
 * is no limit before the first refusal, and none any more once it has grown back to what else limits them. Pure, as the rate.
 */
const STEP_MS = 30_000;

export class ConnectionControl {
  #most = Number.POSITIVE_INFINITY;
  #cutMs = Number.NEGATIVE_INFINITY;
  #stepMs = 0;

  /** Infinity: none. */
  get most(): number {
    return this.#most;
  }

  /**
   * @param openedMs when the connection was begun that was refused, or told to go.
   * @param open connections that are open, this one included. @returns whether the limit is another one now.
   */
  refused(openedMs: number, open: number, nowMs: number): boolean {
    if (openedMs < this.#cutMs) return false;
    const before = this.#most;
    // What is open can be less than the limit, never more of use than it.
    this.#most = Math.max(1, Math.floor(Math.min(before, Math.max(1, open)) / 2));
    this.#cutMs = this.#stepMs = nowMs;
    return this.#most !== before;
  }

  /** The peer took messages. @param ceiling what else limits connections. @returns as refused. */
  succeeded(ceiling: number, nowMs: number): boolean {
    if (this.#most === Number.POSITIVE_INFINITY || nowMs - this.#stepMs < STEP_MS) return false;
    this.#stepMs = nowMs;
    this.#most = this.#most + 1 >= ceiling ? Number.POSITIVE_INFINITY : this.#most + 1;
    return true;
  }

  restore(most: number, nowMs: number): void {
    this.#most = Math.max(1, Math.floor(most));
    this.#cutMs = this.#stepMs = nowMs;
  }
}
