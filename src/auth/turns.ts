/**
 * Whose login is answered next. Logins that take time (hashes, PAM, other servers) share a few places. Those that wait
 * are queued by client, and a free place goes to each client in turn: one that guesses a thousand passwords makes others
 * wait for one guess only. Users that have logged in from the client before go first, clients that failed lately go last.
 */

export type Standing = 'known' | 'fresh' | 'failing';
const BEST_FIRST: readonly Standing[] = ['known', 'fresh', 'failing'];
/** One turn in so many goes to the lowest standing first, so that nobody waits for ever. */
const TURNS_PER_LOWEST_FIRST = 8;

/** @param turn true: it is its turn; false: it gets none, because too many wait. */
type Waiter = (turn: boolean) => void;

export interface TurnLimits {
  /** Logins answered at the same time. */
  places: number;
  /** Most logins altogether, those that wait and those being answered. */
  pending: number;
}

export class Turns {
  #limits: TurnLimits;
  /** By standing, then by client; the client whose turn is next is first. */
  readonly #queues: Record<Standing, Map<string, Waiter[]>> = {
    known: new Map(),
    fresh: new Map(),
    failing: new Map(),
  };
  #taken = 0;
  #waiting = 0;
  #turns = 0;

  constructor(limits: TurnLimits) {
    this.#limits = limits;
  }

  reconfigure(limits: TurnLimits): void {
    this.#limits = limits;
    this.#next();
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** How many one client can have waiting. */
  get perClient(): number {
    return Math.max(2, Math.floor(this.#limits.pending / 4));
  }

  /** Resolves with true when it is the client's turn (then `done` has to be called), with false when it gets none. */
  take(client: string, standing: Standing): Promise<boolean> | boolean {
    const { places, pending } = this.#limits;
    if (this.#taken < Math.min(places, pending)) {
      this.#taken++;
      return true;
    }
    const waiting = this.#waitingOf(client, standing);
    if (waiting >= this.perClient) return false;
    if (this.#taken + this.#waiting >= pending && !this.#makeRoom(standing, waiting)) return false;
    const queue = this.#queues[standing].get(client) ?? [];
    return new Promise((turn) => {
      queue.push(turn);
      this.#queues[standing].set(client, queue);
      this.#waiting++;
    });
  }

  /** How many the client has waiting with this standing or a better one: failing logins do not keep out a known user. */
  #waitingOf(client: string, standing: Standing): number {
    let sum = 0;
    for (const one of BEST_FIRST) {
      sum += this.#queues[one].get(client)?.length ?? 0;
      if (one === standing) break;
    }
    return sum;
  }

  /** The login was answered: its place is free. */
  done(): void {
    this.#taken--;
    this.#next();
  }

  /**
   * Makes room for one more login of this standing: the client with the longest queue loses its newest. Queues of lower
   * standings are looked at first, the lowest before; then those of the same one, where the client must keep more than
   * the one that asks for room has. Nobody makes room for a lower standing.
   * @param waiting how many the client that asks for room has waiting.
   */
  #makeRoom(standing: Standing, waiting: number): boolean {
    for (const other of [...BEST_FIRST].reverse()) {
      const found = longest(this.#queues[other], other === standing ? waiting + 2 : 1);
      if (found !== null) {
        const [client, queue] = found;
        queue.pop()?.(false);
        this.#waiting--;
        if (queue.length === 0) this.#queues[other].delete(client);
        return true;
      }
      if (other === standing) return false;
    }
    return false;
  }

  #next(): void {
    while (this.#waiting > 0 && this.#taken < this.#limits.places) {
      const lowest = ++this.#turns % TURNS_PER_LOWEST_FIRST === 0;
      const order = lowest ? [...BEST_FIRST].reverse() : BEST_FIRST;
      const queues = order.map((standing) => this.#queues[standing]).find(({ size }) => size > 0);
      const [first] = queues ?? [];
      if (queues === undefined || first === undefined) return;
      const [client, queue] = first;
      const turn = queue.shift();
      queues.delete(client);
      if (queue.length > 0) queues.set(client, queue);
      this.#waiting--;
      this.#taken++;
      turn?.(true);
    }
  }
}

/** The longest queue, if it has at least `least`; among equals the one whose turn comes last. */
function longest(queues: ReadonlyMap<string, Waiter[]>, least: number): [string, Waiter[]] | null {
  let found: [string, Waiter[]] | null = null;
  for (const one of queues) if (one[1].length >= (found?.[1].length ?? least)) found = one;
  return found;
}
