/**
 * The time of a shard's server, as this process knows it. Leases and due times in the database are in the server's
 * time, so that nodes whose clocks differ agree on them; in the process they are in its own.
 *
 * The server's time is measured against our time of day and against our steady time. If these two disagree later, our
 * clock was set, or the machine was suspended. Until the next measurement we then write leases by the later of the two,
 * and look for due work by the earlier.
 */
export interface ServerTime {
  /** The server's time at which a lease or pause ends that ends at `ms` by our clock. */
  until(ms: number): number;
  /** The server's time when it is `ms` here, for looking at what is due. */
  since(ms: number): number;
  /** Our time when it is `ms` on the server. */
  here(ms: number): number;
}

/** A smaller disagreement between measurements is only drift. */
const JUMP_MS = 1000;

export class ServerClock implements ServerTime {
  readonly #now: () => number;
  readonly #steady: () => number;
  #offsetMs = 0;
  #steadyOffsetMs: number | null = null;

  constructor(now: () => number, steady: () => number = () => performance.now()) {
    this.#now = now;
    this.#steady = steady;
  }

  /** The server's clock minus ours; null before the first measurement. */
  get offsetMs(): number | null {
    return this.#steadyOffsetMs === null ? null : this.#offsetMs;
  }

  /** Begins a measurement; call what is returned with the server's answer. */
  measure(): (serverMs: number) => void {
    const askedMs = this.#steady();
    return (serverMs) => {
      const steadyMs = this.#steady();
      const tookMs = steadyMs - askedMs;
      const steadyOffsetMs = serverMs - (askedMs + steadyMs) / 2;
      const before = this.#steadyOffsetMs;
      // An answer that took long says little: an earlier offset that agrees with it is kept.
      if (before === null || this.jumped || Math.abs(steadyOffsetMs - before) > tookMs / 2)
        this.#steadyOffsetMs = steadyOffsetMs;
      this.#offsetMs = Math.round((this.#steadyOffsetMs as number) + steadyMs - this.#now());
    };
  }

  /** Whether our clock was set since the last measurement, or the machine was suspended. */
  get jumped(): boolean {
    return Math.abs(this.#jumpMs()) > JUMP_MS;
  }

  /**
   * The offset by steady time minus the offset that was measured: 0 unless our clock was set or the machine suspended.
   */
  #jumpMs(): number {
    if (this.#steadyOffsetMs === null) return 0;
    return Math.round(this.#steadyOffsetMs + this.#steady() - this.#now() - this.#offsetMs);
  }

  until(ms: number): number {
    return ms + this.#offsetMs + Math.max(0, this.#jumpMs());
  }

  since(ms: number): number {
    return ms + this.#offsetMs + Math.min(0, this.#jumpMs());
  }

  here(ms: number): number {
    return ms - this.#offsetMs;
  }
}
