/**
 * Connections to a destination, under a limit that all nodes share. Delivery threads say how many they want and have
 * open. This process leases them from the agenda, once a second and when a thread waits for its first, and grants them
 * to the threads.
 */
import { LeasedParts, type SharedParts } from './parts.ts';

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

export interface ConnectionSharesPorts {
  /** Most connections to one destination, of all nodes together. */
  limit: number;
  shared: SharedParts;
  grant(grants: ConnectionGrant[]): void;
  now(): number;
  setTimer(atMs: number, fire: () => void): { cancel(): void };
}

const LOOK_MS = 1000;
const SOON_MS = 10;

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
  readonly #parts: LeasedParts;

  constructor(ports: ConnectionSharesPorts) {
    this.#ports = ports;
    this.#parts = new LeasedParts(ports.shared, ports.now);
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
    const { limit } = this.#ports;
    const granted = await this.#parts.lease(
      asked.map(({ destination, wanted, open }, i) => ({
        name: `connections:${destination}`,
        limit,
        wanted,
        held: open,
        granted: (shares[i] as Share).granted,
      })),
    );
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
}
