/**
 * Connections to a destination, under a limit that all nodes share. Delivery threads say how many they want and have
 * open. This process leases them from the agenda, once a second and when a thread waits for its first, and grants them
 * to the threads. While the agenda cannot be reached, each process may have its equal part of the limit, and at least
 * one connection: deliveries go on.
 */

/** What a delivery thread says of a destination. */
export interface ConnectionDemand {
  destination: string;
  wanted: number;
  /** Connections that are open, or being opened or closed. */
  open: number;
}

/** What the thread is told: how many connections it may have. */
export interface ConnectionGrant {
  destination: string;
  connections: number;
}

export interface SharedConnections {
  readonly up: boolean;
  /** Since when it is up, or lost. */
  readonly sinceMs: number;
  members(): { all: number; silent: number };
  /** @returns how many of the wanted connections each demand is granted, in order. */
  leaseConnections(demands: readonly ConnectionDemand[], limit: number): Promise<number[]>;
}

export interface ConnectionSharesPorts {
  /** Most connections to one destination, of all nodes together. */
  limit: number;
  shared: SharedConnections;
  grant(grants: ConnectionGrant[]): void;
  now(): number;
  setTimer(atMs: number, fire: () => void): { cancel(): void };
}

const LOOK_MS = 1000;
const SOON_MS = 10;
/** This long after the agenda was lost, all processes have come down to their equal part. */
const LOST_SETTLED_MS = 5000;
/** This long after the agenda returned, all processes have found it and told it what they hold. */
const RETURN_SETTLED_MS = 3000;

interface Share extends ConnectionDemand {
  granted: number;
}

export class ConnectionShares {
  readonly #ports: ConnectionSharesPorts;
  readonly #shares = new Map<string, Share>();
  #timer: { cancel(): void } | null = null;
  #timerMs = Number.POSITIVE_INFINITY;
  #looking = false;
  #running = true;
  /** Number of processes when the agenda was last known to be complete, or was lost. */
  #processes = 1;
  /** We have leased connections before. */
  #leased = false;
  /** The agenda was lost after that, and is still away, or not back for RETURN_SETTLED_MS. */
  #lost = false;

  constructor(ports: ConnectionSharesPorts) {
    this.#ports = ports;
  }

  demand(demands: readonly ConnectionDemand[]): void {
    let waits = false;
    for (const { destination, wanted, open } of demands) {
      const share = this.#shares.get(destination);
      if (share === undefined) this.#shares.set(destination, { destination, wanted, open, granted: 0 });
      else Object.assign(share, { wanted, open });
      if (wanted > 0 && (share?.granted ?? 0) === 0) waits = true;
    }
    this.#lookAt(this.#ports.now() + (waits ? SOON_MS : LOOK_MS));
  }

  stop(): void {
    this.#running = false;
    this.#timer?.cancel();
  }

  #lookAt(atMs: number): void {
    if (!this.#running || this.#looking || atMs >= this.#timerMs) return;
    this.#timer?.cancel();
    this.#timerMs = atMs;
    this.#timer = this.#ports.setTimer(atMs, () => {
      this.#timerMs = Number.POSITIVE_INFINITY;
      void this.#look();
    });
  }

  async #look(): Promise<void> {
    this.#looking = true;
    const shares = [...this.#shares.values()];
    // A copy, because threads may change their demands during the wait.
    const asked = shares.map(({ destination, wanted, open }) => ({ destination, wanted, open }));
    const granted = await this.#granted(asked);
    const grants: ConnectionGrant[] = [];
    for (const [i, share] of shares.entries()) {
      const connections = granted[i] as number;
      if (connections !== share.granted) grants.push({ destination: share.destination, connections });
      share.granted = connections;
      const { wanted, open } = asked[i] as ConnectionDemand;
      if (wanted + open + share.wanted + share.open === 0) this.#shares.delete(share.destination);
    }
    if (grants.length > 0) this.#ports.grant(grants);
    this.#looking = false;
    if (this.#shares.size > 0) this.#lookAt(this.#ports.now() + LOOK_MS);
  }

  async #granted(asked: ConnectionDemand[]): Promise<number[]> {
    const { shared, limit, now } = this.#ports;
    const { all, silent } = shared.members();
    // An agenda that comes back empty only knows the processes that came first. Until the others have told what they
    // hold, no process gets more than its equal part.
    if (!shared.up) this.#lost = this.#leased;
    else if (now() - shared.sinceMs > RETURN_SETTLED_MS) this.#lost = false;
    const returns = shared.up && this.#lost;
    if (!returns) this.#processes = all;
    const part = Math.max(1, Math.floor(limit / Math.max(all, this.#processes)));
    if (shared.up) {
      if (returns) for (const demand of asked) demand.wanted = Math.min(demand.wanted, part);
      try {
        // Silent processes cannot reach the agenda, and have their part without asking: it is taken off the limit.
        const granted = await shared.leaseConnections(asked, Math.max(1, limit - silent * part));
        this.#leased = true;
        return granted;
      } catch {
        // The agenda has logged the fault; here it counts as lost.
      }
    }
    // Measured from the loss, not from our last lease: even a process that had asked for nothing must wait for the
    // others.
    const settled = !shared.up && now() - shared.sinceMs > LOST_SETTLED_MS;
    return asked.map(({ destination, wanted }) => {
      const before = this.#shares.get(destination)?.granted ?? 0;
      return Math.min(wanted, settled ? part : Math.min(part, Math.max(1, before)));
    });
  }
}
