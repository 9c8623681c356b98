/**
 * Destinations with mail that waits for a connection: those that got none because the thread has too many, and those that
 * look again after a while. A place that becomes free costs as many looks as there are places, however many wait.
 */

/** A destination as far as that goes. */
export interface Waits {
  /** Opens the connections that it wants and may have. */
  pump(): void;
}

export interface WaitingPorts {
  /** Connections that may be opened. */
  places(): number;
  /** After which `later` looks again. */
  waitMs(): number;
  setTimer(ms: number, fire: () => void): void;
  outside(work: () => void): void;
}

export class WaitingDestinations {
  readonly #ports: WaitingPorts;
  /** Got no connection, in order. */
  readonly #starved = new Set<Waits>();
  /** Routes that are being asked for: each may take a connection. */
  #routing = 0;
  /** The one whose turn it is. */
  #fed: Waits | null = null;
  /** No connection could be opened, and none ended since. */
  #full = false;
  #later = new Set<Waits>();
  #timer = false;

  constructor(ports: WaitingPorts) {
    this.#ports = ports;
  }

  /** Some got no connection. */
  get any(): boolean {
    return this.#starved.size > 0;
  }

  /** There is no connection for it now: `pump` is called when there may be. */
  starve(destination: Waits): void {
    this.#starved.add(destination);
    this.#full = true;
  }

  /** Whether it may dial: not before those that wait. Else it waits behind them, whatever its last connection came to. */
  mayDial(destination: Waits): boolean {
    if (this.#starved.size === 0 || this.#fed === destination) return true;
    this.#starved.add(destination);
    return false;
  }

  /** It asks where it leads before it takes a connection. */
  asks<T>(route: Promise<T>): Promise<T> {
    this.#routing++;
    const asked = (): void => {
      this.#routing--;
    };
    route.then(asked, asked);
    return route;
  }

  /** A connection ended. */
  freed(): void {
    this.#full = false;
    this.feed();
  }

  /** As many as there are places, first come first served; who has no use for his leaves it to the next. */
  feed(): void {
    for (const starved of this.#starved) {
      if (this.#full || this.#routing >= this.#ports.places()) return;
      this.#starved.delete(starved);
      this.#fed = starved;
      try {
        starved.pump();
      } finally {
        this.#fed = null;
      }
    }
  }

  /** Calls `pump` after a while; one timer for all. */
  later(destination: Waits): void {
    this.#later.add(destination);
    if (this.#timer) return;
    this.#timer = true;
    this.#ports.setTimer(this.#ports.waitMs(), () => {
      this.#timer = false;
      const waiting = this.#later;
      this.#later = new Set();
      this.#ports.outside(() => {
        for (const one of waiting) one.pump();
      });
    });
  }
}
