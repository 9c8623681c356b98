/**
 * Connections to a destination that all nodes share. Delivery threads say how many they want and have open; here they
 * are leased from what is shared, once a second and when somebody waits for his first, and granted to the threads.
 * While that cannot be reached each process has a part that is safe, and never less than one: deliveries go on.
 */

/** What a delivery thread says of a destination. */
export interface ConnectionDemand {
  destination: string;
  wanted: number;
  /** Open, or being opened or closed. */
  open: number;
}

/** What it is told: so many it may have. */
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
  /** Connections to one destination, of all nodes together. */
  limit: number;
  shared: SharedConnections;
  grant(grants: ConnectionGrant[]): void;
  now(): number;
  setTimer(atMs: number, fire: () => void): { cancel(): void };
}

const LOOK_MS = 1000;
const SOON_MS = 10;
/** Others have come down to their part so long after what is shared was lost. */
const LOST_MS = 5000;
/** All have told what they hold so long after it returned: it is tried again at least so often, and asked every second. */
const RETURN_MS = 3000;

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
  /** As of the last time that what is shared was settled, or lost. */
  #processes = 1;
  /** There was a lease; what is shared was lost since, and is back for a moment only. */
  #leased = false;
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
    // What is asked for is what was so when it was asked.
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
    // What comes back empty knows only who came first: until the others have told what they hold, nobody gets more
    // than he had meanwhile.
    if (!shared.up) this.#lost = this.#leased;
    else if (now() - shared.sinceMs > RETURN_MS) this.#lost = false;
    const returns = shared.up && this.#lost;
    if (!returns) this.#processes = all;
    const part = Math.max(1, Math.floor(limit / Math.max(all, this.#processes)));
    if (shared.up) {
      if (returns) for (const demand of asked) demand.wanted = Math.min(demand.wanted, part);
      try {
        // Those that cannot reach what is shared have their part without asking.
        const granted = await shared.leaseConnections(asked, Math.max(1, limit - silent * part));
        this.#leased = true;
        return granted;
      } catch {
        // Told by the one that found it out; it is lost for us as well.
      }
    }
    // Not since we last leased: who asked for nothing for a while must wait for the others all the same.
    const settled = !shared.up && now() - shared.sinceMs > LOST_MS;
    return asked.map(({ destination, wanted }) => {
      const before = this.#shares.get(destination)?.granted ?? 0;
      return Math.min(wanted, settled ? part : Math.min(part, Math.max(1, before)));
    });
  }
}
