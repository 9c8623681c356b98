/**
 * Destinations whose mail waits for a connection: those that got none because the thread has too many, and those that
 * look again after a while. When a place becomes free, only as many destinations are called as there are places.
 */

/** What is needed of a destination here. */
export interface Waits {
  /** Opens connections that it wants and may have. */
  pump(): void;
}

export interface WaitingPorts {
  /** How many connections may be opened. */
  places(): number;
  /** The pause after which `later` calls `pump`. */
  waitMs(): number;
  setTimer(ms: number, fire: () => void): void;
  outside(work: () => void): void;
}

export class WaitingDestinations {
  readonly #ports: WaitingPorts;
  /** Destinations that got no connection, in order. */
  readonly #starved = new Set<Waits>();
  /** Number of routes that are being asked for; each may take a connection. */
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

  /** Whether some destination got no connection. */
  get any(): boolean {
    return this.#starved.size > 0;
  }

  /** There is no connection for the destination now: `pump` is called when there may be one. */
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

  /**
   * Calls as many destinations as there are places, first come first served. One that needs no place leaves it to the
   * next.
   */
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

  /** Calls `pump` of the destination after a while; one timer serves all. */
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
