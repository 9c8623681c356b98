/**
 * How many connections this thread may open to each destination, where all nodes share a limit. The thread says how
 * many it wants and has open, and keeps to what it is granted.
 */
import type { ConnectionDemand, ConnectionGrant } from '../scheduler/connections.ts';

/** What is needed of a destination here. */
export interface Connecting {
  readonly key: string;
  /** Number of connections that are open, or being opened or closed. */
  readonly openConnections: number;
  readonly wantedConnections: number;
  /** Closes connections beyond the grant, or opens those that it allows. */
  connectionsGranted(): void;
}

export interface GrantedConnectionsPorts {
  post(demands: ConnectionDemand[]): void;
  destinations(): Iterable<Connecting>;
  destination(key: string): Connecting | undefined;
  setTimer(ms: number, fire: () => void): void;
}

const LOOK_MS = 250;

interface Told {
  wanted: number;
  open: number;
  granted: number;
}

export class GrantedConnections {
  readonly #ports: GrantedConnectionsPorts;
  readonly #told = new Map<string, Told>();
  #timer = false;

  constructor(ports: GrantedConnectionsPorts) {
    this.#ports = ports;
  }

  of(key: string): number {
    return this.#told.get(key)?.granted ?? 0;
  }

  /** The destination wants more connections than it may open. Its first wish is sent at once, later ones at the next look. */
  short(destination: Connecting): void {
    if (!this.#told.has(destination.key)) {
      const demands: ConnectionDemand[] = [];
      this.#tell(destination.key, destination.wantedConnections, destination.openConnections, demands);
      this.#ports.post(demands);
    }
    this.#later();
  }

  granted(grants: readonly ConnectionGrant[]): void {
    for (const { destination: key, connections } of grants) {
      const told = this.#told.get(key);
      if (told === undefined) continue;
      told.granted = connections;
      this.#ports.destination(key)?.connectionsGranted();
    }
    this.#later();
  }

  #later(): void {
    if (this.#timer) return;
    this.#timer = true;
    this.#ports.setTimer(LOOK_MS, () => {
      this.#timer = false;
      this.#look();
    });
  }

  #look(): void {
    const demands: ConnectionDemand[] = [];
    const seen = new Set<string>();
    for (const destination of this.#ports.destinations()) {
      seen.add(destination.key);
      const { wantedConnections: wanted, openConnections: open } = destination;
      if (wanted + open > 0 || this.#told.has(destination.key))
        this.#tell(destination.key, wanted, open, demands);
    }
    for (const key of this.#told.keys()) if (!seen.has(key)) this.#tell(key, 0, 0, demands);
    if (demands.length > 0) this.#ports.post(demands);
    if (this.#told.size > 0) this.#later();
  }

  #tell(destination: string, wanted: number, open: number, demands: ConnectionDemand[]): void {
    const told = this.#told.get(destination);
    if (wanted + open === 0) this.#told.delete(destination);
    else if (told === undefined) this.#told.set(destination, { wanted, open, granted: 0 });
    else if (told.wanted === wanted && told.open === open) return;
    else Object.assign(told, { wanted, open });
    if (wanted + open > 0 || told !== undefined) demands.push({ destination, wanted, open });
  }
}
