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
    const queue = this.#queues[standing].get(client) ?? [];
    if (queue.length >= this.perClient) return false;
    if (this.#taken + this.#waiting >= pending && !this.#makeRoom(queue.length)) return false;
    return new Promise((turn) => {
      queue.push(turn);
      this.#queues[standing].set(client, queue);
      this.#waiting++;
    });
  }

  /** The login was looked at. */
  done(): void {
    this.#taken--;
    this.#next();
  }

  /** The client that has most waiting, and more than whoever comes, gives up its newest. */
  #makeRoom(than: number): boolean {
    let longest: Waiter[] | null = null;
    let at: [Standing, string] | null = null;
    for (const standing of ORDER)
      for (const [client, queue] of this.#queues[standing])
        if (queue.length > Math.max(than, longest?.length ?? 0)) [longest, at] = [queue, [standing, client]];
    if (longest === null || at === null) return false;
    longest.pop()?.(false);
    this.#waiting--;
    if (longest.length === 0) this.#queues[at[0]].delete(at[1]);
    return true;
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
