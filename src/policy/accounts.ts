/**
 * Accounts of what clients share. Each row of RESOURCES has a total, and a count for each client and each network. The
 * counts lie in memory that all threads and processes of a host share, as a count-min sketch with a region for each
 * process, so that what a dead process held is cleared at once. A client's count can be too high, when others fall into
 * its cells in all rows, but never too low. native/accounts.h uses the same words of memory: change both together.
 */
import { clientNetwork, type Ip, type Network, neighbourhood } from '../base/ip.ts';
import { hash } from './slot-table.ts';

/** Whether a limit is for one process, or for the host, over which all regions are summed up. */
type Scope = 'process' | 'host';

/** Adding a resource is one row: its number (below PLACES) and the scope of its limits; its comment gives the unit. */
export const RESOURCES = {
  /** Sockets, by the address of their other end (src/listener). */
  sockets: { number: 0, scope: 'host' },
  /** Connections, by whom they speak for (PROXY, XCLIENT). */
  connections: { number: 1, scope: 'host' },
  /** TLS handshakes under way. */
  handshakes: { number: 2, scope: 'process' },
  /** KiB of content memory, from its first octet to its commit. */
  content: { number: 3, scope: 'process' },
  /** KiB in spill files, from its first octet to its commit too. */
  spill: { number: 4, scope: 'process' },
  /** KiB of open envelopes, up to their commit, and of commands that wait. */
  envelopes: { number: 5, scope: 'process' },
} as const satisfies Record<string, { number: number; scope: Scope }>;

export type Resource = keyof typeof RESOURCES;

/** Whom something is counted for: hashes of the client (an IPv4 address or a /64) and of the network above it. */
export interface Account {
  readonly client: number;
  readonly network: number;
  /** In relay_networks, on a Unix socket, or authenticated: its share is a wider one. */
  readonly trusted: boolean;
}

export interface Limits {
  total: number;
  client: number;
  network: number;
  trusted: number;
  /** Clients that are not trusted get nothing once so much is in use altogether: the rest is for those who are. */
  strangers: number;
}

const ROWS = 4;
const CELLS = 65_536;
const PLACES = 8;
/** A region begins with the totals; the limits of each resource follow. */
const LIMITS_AT = PLACES;
const LIMITS = 5;
const HEADER_WORDS = 64;
const REGION_WORDS = HEADER_WORDS + ROWS * CELLS * PLACES;
/** Before all regions: the seed of the hashes. */
const HOST_WORDS = 16;
export const NO_LIMIT = 0x3fff_ffff;

/** Bytes of shared memory for that many processes (8 MiB each, touched only as used). */
export const accountsBytes = (processes: number): number => (HOST_WORDS + processes * REGION_WORDS) * 4;

export class Accounts {
  readonly #host: Int32Array;
  readonly #all: Int32Array;
  readonly #own: Int32Array;

  /** @param process whose region this thread writes. */
  constructor(memory: ArrayBufferLike, offset: number, processes: number, process: number) {
    this.#host = new Int32Array(memory, offset, HOST_WORDS);
    const begin = offset + HOST_WORDS * 4;
    this.#all = new Int32Array(memory, begin, processes * REGION_WORDS);
    this.#own = new Int32Array(memory, begin + process * REGION_WORDS * 4, REGION_WORDS);
  }

  /** @param seed random: a client cannot choose whose cells it shares. */
  static initialize(memory: ArrayBufferLike, offset: number, seed: number, processes: number): void {
    new Int32Array(memory, offset, HOST_WORDS)[0] = seed | 1;
    for (let process = 0; process < processes; process++)
      Accounts.#unlimit(
        new Int32Array(memory, offset + (HOST_WORDS + process * REGION_WORDS) * 4, HEADER_WORDS),
      );
  }

  static #unlimit(header: Int32Array): void {
    header.fill(NO_LIMIT, LIMITS_AT);
  }

  /** Gives back what a process that died held. */
  static clear(memory: ArrayBufferLike, offset: number, process: number): void {
    const region = new Int32Array(memory, offset + (HOST_WORDS + process * REGION_WORDS) * 4, REGION_WORDS);
    region.fill(0);
    Accounts.#unlimit(region.subarray(0, HEADER_WORDS));
  }

  /** This process's region, for the addon. */
  get region(): Uint8Array {
    return Buffer.from(this.#own.buffer, this.#own.byteOffset, this.#own.byteLength);
  }

  /** @param name of a client without an address: a Unix socket, or a client that its proxy does not know. */
  accountOf(ip: Ip | null, trusted: boolean, name = ''): Account {
    if (ip === null) {
      const client = hash(name, this.#host[0] as number);
      return { client, network: client ^ 1 || 1, trusted };
    }
    return {
      client: this.hashOf(clientNetwork(ip)),
      network: this.hashOf(neighbourhood(ip)) ^ 1 || 1,
      trusted,
    };
  }

  hashOf({ ip, bits }: Network): number {
    let mixed = (this.#host[0] as number) ^ bits;
    for (const word of ip) {
      mixed = Math.imul(mixed ^ word, 0x85ebca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
      mixed ^= mixed >>> 16;
    }
    return mixed;
  }

  limit(resource: Resource, { total, client, network, trusted, strangers }: Limits): void {
    const at = LIMITS_AT + RESOURCES[resource].number * LIMITS;
    [total, client, network, trusted, strangers].forEach((limit, i) => {
      Atomics.store(this.#own, at + i, Math.max(0, Math.min(NO_LIMIT, Math.floor(limit))));
    });
  }

  /** Takes the amount for the client; false, and nothing taken, when the total, its share or its network's is too small. */
  take(account: Account, resource: Resource, amount: number): boolean {
    const { number } = RESOURCES[resource];
    const at = LIMITS_AT + number * LIMITS;
    const own = this.#own;
    const { client, network, trusted } = account;
    const total = Atomics.add(own, number, amount) + amount;
    const ofClient = this.#add(client, number, amount);
    const ofNetwork = this.#add(network, number, amount);
    const fits =
      total <= (own[at] as number) &&
      (trusted || total <= (own[at + 4] as number)) &&
      ofClient <= (own[at + (trusted ? 3 : 1)] as number) &&
      (trusted || ofNetwork <= (own[at + 2] as number));
    if (!fits) this.give(account, resource, amount);
    return fits;
  }

  /** Whether `take` would succeed now. */
  fits({ client, network, trusted }: Account, resource: Resource, amount: number): boolean {
    const { number } = RESOURCES[resource];
    const at = LIMITS_AT + number * LIMITS;
    const own = this.#own;
    const total = Atomics.load(own, number) + amount;
    return (
      total <= (own[at] as number) &&
      (trusted || total <= (own[at + 4] as number)) &&
      this.#ownOf(client, number) + amount <= (own[at + (trusted ? 3 : 1)] as number) &&
      (trusted || this.#ownOf(network, number) + amount <= (own[at + 2] as number))
    );
  }

  /** Counts without a limit (negative: gives back). @param account network 0: none. */
  count({ client, network }: Pick<Account, 'client' | 'network'>, resource: Resource, amount: number): void {
    const { number } = RESOURCES[resource];
    Atomics.add(this.#own, number, amount);
    this.#add(client, number, amount);
    if (network !== 0) this.#add(network, number, amount);
  }

  give(account: Pick<Account, 'client' | 'network'>, resource: Resource, amount: number): void {
    this.count(account, resource, -amount);
  }

  /** What is in use altogether, on the host or in this process, by the resource's scope. */
  total(resource: Resource): number {
    const { number, scope } = RESOURCES[resource];
    return scope === 'host' ? this.#sum(number) : Atomics.load(this.#own, number);
  }

  /** What a client or a network, given by its hash, has in use. */
  of(account: number, resource: Resource): number {
    const { number, scope } = RESOURCES[resource];
    if (scope === 'process') return this.#ownOf(account, number);
    let least = Number.POSITIVE_INFINITY;
    for (let row = 0; row < ROWS; row++) least = Math.min(least, this.#sum(cell(account, row) + number));
    return least;
  }

  #ownOf(account: number, number: number): number {
    let least = Number.POSITIVE_INFINITY;
    for (let row = 0; row < ROWS; row++)
      least = Math.min(least, Atomics.load(this.#own, cell(account, row) + number));
    return least;
  }

  /** Returns the count afterwards. */
  #add(account: number, number: number, amount: number): number {
    let least = Number.POSITIVE_INFINITY;
    for (let row = 0; row < ROWS; row++)
      least = Math.min(least, Atomics.add(this.#own, cell(account, row) + number, amount) + amount);
    return least;
  }

  #sum(word: number): number {
    let sum = 0;
    for (let at = word; at < this.#all.length; at += REGION_WORDS) sum += Atomics.load(this.#all, at);
    return sum;
  }
}

/** First word of an account's cell in a row of the sketch. */
function cell(account: number, row: number): number {
  let mixed = account ^ Math.imul(row + 1, 0x9e3779b9);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return HEADER_WORDS + (row * CELLS + ((mixed ^ (mixed >>> 16)) & (CELLS - 1))) * PLACES;
}
