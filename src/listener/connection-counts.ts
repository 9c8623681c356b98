/**
 * How many connections are open, altogether and from one address: the limits on connections are compared with these.
 * `LocalCounts` knows those of this process; `SharedCounts` those of all relay processes of a host, in memory that they
 * share.
 */

import { type Ip, type Network, parseIp } from '../base/ip.ts';

/** The one name that all Unix sockets share in place of an address; only the total limits them. */
export const UNIX_PEER = 'unix';

export interface ConnectionLimits {
  total: number;
  perAddress: number;
}

export interface ConnectionCounts {
  /** Connections of this process. */
  readonly open: number;
  /** null, and the connection is counted; or the limit that it would break, and it is not. */
  enter(peer: string, limits: ConnectionLimits): 'total' | 'address' | null;
  /** Uncounts a connection of the peer; nothing happens when it has none. */
  leave(peer: string): void;
}

export class LocalCounts implements ConnectionCounts {
  /** An address without connections has no entry. */
  readonly #byAddress = new Map<string, number>();
  #open = 0;

  get open(): number {
    return this.#open;
  }

  enter(peer: string, { total, perAddress }: ConnectionLimits): 'total' | 'address' | null {
    const count = this.#byAddress.get(peer) ?? 0;
    if (this.#open >= total) return 'total';
    if (peer !== UNIX_PEER && count >= perAddress) return 'address';
    this.#open++;
    this.#byAddress.set(peer, count + 1);
    return null;
  }

  leave(peer: string): void {
    const count = this.#byAddress.get(peer);
    if (count === undefined) return;
    this.#open--;
    if (count > 1) this.#byAddress.set(peer, count - 1);
    else this.#byAddress.delete(peer);
  }

  has(peer: string): boolean {
    return this.#byAddress.has(peer);
  }
}

/** The part of the host's accounts (src/policy/accounts.ts) that counts sockets. */
export interface SocketAccounts {
  hashOf(network: Network): number;
  count(account: { client: number; network: number }, resource: 'sockets', amount: number): void;
  total(resource: 'sockets'): number;
  of(hash: number, resource: 'sockets'): number;
}

/**
 * Every process writes its own counts and reads those of all, so nothing is locked, and a dead process's can be cleared.
 * A connection is counted before the sum is read: two processes at the limit may both refuse, but never both admit. An
 * address may be counted too high, never too low.
 */
export class SharedCounts implements ConnectionCounts {
  readonly #local = new LocalCounts();
  readonly #accounts: SocketAccounts;

  constructor(accounts: SocketAccounts) {
    this.#accounts = accounts;
  }

  get open(): number {
    return this.#local.open;
  }

  enter(peer: string, limits: ConnectionLimits): 'total' | 'address' | null {
    const hash = this.#count(peer, 1);
    const refusal =
      this.#accounts.total('sockets') > limits.total
        ? 'total'
        : peer !== UNIX_PEER && this.#accounts.of(hash, 'sockets') > limits.perAddress
          ? 'address'
          : null;
    if (refusal !== null) this.#count(peer, -1);
    else this.#local.enter(peer, { total: Number.POSITIVE_INFINITY, perAddress: Number.POSITIVE_INFINITY });
    return refusal;
  }

  leave(peer: string): void {
    if (!this.#local.has(peer)) return;
    this.#local.leave(peer);
    this.#count(peer, -1);
  }

  /** Returns the address's hash. Nothing is counted for the network above the address. */
  #count(peer: string, change: number): number {
    const hash = this.#accounts.hashOf({ ip: parseIp(peer) ?? NO_ADDRESS, bits: SOCKET_ACCOUNT_BITS });
    this.#accounts.count({ client: hash, network: 0 }, 'sockets', change);
    return hash;
  }
}

const NO_ADDRESS: Ip = [0, 0, 0, 0];
/** More bits than any network has, so that no other account has the same hash. */
const SOCKET_ACCOUNT_BITS = 129;
