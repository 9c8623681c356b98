/**
 * The time of a shard's server, as this process knows it. Leases and due times in the database are in the server's
 * time, so that nodes whose clocks differ agree on them; in the process they are in its own.
 *
 * Measured against the time of day and against steady time. Where the two disagree since, a clock of ours was set, or
 * the machine was suspended: until the next measurement leases are taken to end later, and nothing to be due sooner,
 * than either says.
 */
export interface ServerTime {
  /** When leases and pauses that end then by our clock end there. */
  until(ms: number): number;
  /** What it is there when it is `ms` here, for looks at what is due. */
  since(ms: number): number;
  /** A time of the server's by our clock. */
  here(ms: number): number;
}

/** Between measurements clocks may drift by less. */
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

  /** The server's clock less ours; null before it was measured. */
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
      // An answer that took long says little: what is known already and agrees with it stays.
      if (before === null || this.jumped || Math.abs(steadyOffsetMs - before) > tookMs / 2)
        this.#steadyOffsetMs = steadyOffsetMs;
      this.#offsetMs = Math.round((this.#steadyOffsetMs as number) + steadyMs - this.#now());
    };
  }

  /** Our clock was set since the last measurement, or the machine was suspended. */
  get jumped(): boolean {
    return Math.abs(this.#jumpMs()) > JUMP_MS;
  }

  /** By how much more steady time says the server's clock differs from ours than was measured. */
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
