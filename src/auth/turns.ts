/**
 * Whose login is looked at next. Those that take time (hashes, PAM, other servers) have a few places; who waits for one
 * waits with its client, and a free place goes round the clients, so that whoever guesses a thousand passwords makes
 * another wait for one of them. Who has logged in from there before goes first, who failed lately goes last.
 */

export type Standing = 'known' | 'fresh' | 'failing';
const ORDER: readonly Standing[] = ['known', 'fresh', 'failing'];
/** One turn in so many goes to the lowest that waits: nobody waits for ever. */
const LAST_FIRST = 8;

/** @param turn false: no turn comes, there are too many. */
type Waiter = (turn: boolean) => void;

export interface TurnLimits {
  /** Logins looked at at once. */
  places: number;
  /** All together, those that wait and those looked at. */
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

  /** Most that one client can have waiting. */
  get perClient(): number {
    return Math.max(2, Math.floor(this.#limits.pending / 4));
  }

  /** Resolves with true when it is the client's turn (then `done` has to be said), with false when it gets none. */
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

  /** With this standing or a better one: what fails from there keeps nobody out who is known. */
  #waitingOf(client: string, standing: Standing): number {
    let sum = 0;
    for (const one of ORDER) {
      sum += this.#queues[one].get(client)?.length ?? 0;
      if (one === standing) break;
    }
    return sum;
  }

  /** The login was looked at. */
  done(): void {
    this.#taken--;
    this.#next();
  }

  /**
   * The client that has most waiting gives up its newest: of those that come after whoever is here now, the last; else of
   * its equals, if it will still have as many. Nobody makes room for who comes after them.
   * @param waiting of the client who wants it.
   */
  #makeRoom(standing: Standing, waiting: number): boolean {
    for (const other of [...ORDER].reverse()) {
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
      const lowest = ++this.#turns % LAST_FIRST === 0;
      const order = lowest ? [...ORDER].reverse() : ORDER;
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

/** The longest queue of so many at least; of equal ones that whose turn comes last. */
function longest(queues: ReadonlyMap<string, Waiter[]>, least: number): [string, Waiter[]] | null {
  let found: [string, Waiter[]] | null = null;
  for (const one of queues) if (one[1].length >= (found?.[1].length ?? least)) found = one;
  return found;
}
