/**
 * Parts of limits that all nodes share, leased from the agenda. While it cannot be reached, each process may have its equal
 * part, and at least one: deliveries go on.
 */

/** A part of one limit. */
export interface PartDemand {
  /** What is limited. */
  name: string;
  limit: number;
  wanted: number;
  /** What this process has in use, or may take into use without asking. */
  held: number;
  /** What it was granted last. */
  granted: number;
}

export interface SharedParts {
  readonly up: boolean;
  /** Since when it is up, or lost. */
  readonly sinceMs: number;
  members(): { all: number; silent: number };
  /** @returns how much of what is wanted is granted, in order. */
  leaseParts(demands: readonly Omit<PartDemand, 'granted'>[]): Promise<number[]>;
}

/** This long after the agenda was lost, all processes have come down to their equal part. */
const LOST_SETTLED_MS = 5000;
/** This long after the agenda returned, all processes have found it and told it what they hold. */
const RETURN_SETTLED_MS = 3000;

export class LeasedParts {
  readonly #shared: SharedParts;
  readonly #now: () => number;
  /** Number of processes when the agenda was last known to be complete, or was lost. */
  #processes = 1;
  /** We have leased something before. */
  #leased = false;
  /** The agenda was lost after that, and is still away, or not back for RETURN_SETTLED_MS. */
  #lost = false;

  constructor(shared: SharedParts, now: () => number) {
    this.#shared = shared;
    this.#now = now;
  }

  /** @returns what each of the demands is granted, in order. */
  async lease(demands: readonly PartDemand[]): Promise<number[]> {
    const shared = this.#shared;
    const { all, silent } = shared.members();
    // An agenda that comes back empty only knows the processes that came first. Until the others have told what they
    // hold, no process gets more than its equal part.
    if (!shared.up) this.#lost = this.#leased;
    else if (this.#now() - shared.sinceMs > RETURN_SETTLED_MS) this.#lost = false;
    const returns = shared.up && this.#lost;
    if (!returns) this.#processes = all;
    const processes = Math.max(all, this.#processes);
    const partOf = (limit: number): number => Math.max(1, Math.floor(limit / processes));
    if (shared.up) {
      const asked = demands.map(({ name, limit, wanted, held }) => ({
        name,
        wanted: returns ? Math.min(wanted, partOf(limit)) : wanted,
        held,
        // Silent processes cannot reach the agenda, and have their part without asking: it is taken off the limit.
        limit: Math.max(1, limit - silent * partOf(limit)),
      }));
      try {
        const granted = await shared.leaseParts(asked);
        this.#leased = true;
        return granted;
      } catch {
        // The agenda has logged the fault; here it counts as lost.
      }
    }
    // Measured from the loss, not from our last lease: even a process that had asked for nothing must wait for the
    // others.
    const settled = !shared.up && this.#now() - shared.sinceMs > LOST_SETTLED_MS;
    return demands.map(({ limit, wanted, granted }) => {
      const part = partOf(limit);
      return Math.min(wanted, settled ? part : Math.min(part, Math.max(1, granted)));
    });
  }
}
