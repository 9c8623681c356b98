/**
 * What one session holds of what clients share, booked on its client's account. However the session ends, `close` gives
 * back exactly what is left.
 */
import type { Ip } from '../base/ip.ts';
import { type Account, type Accounts, RESOURCES } from './accounts.ts';

const KIB = 1024;
/**
 * A session keeps so much for envelopes from one transaction to the next, and only what exceeds it goes on with the
 * message: so the envelope of a usual message does not touch the shared counts. What goes on uncounted is bounded by the
 * number of messages in flight.
 */
const KEPT_KIB = 2;

/** What sessions take themselves; the reactor takes for content as it comes in. */
type Held = 'handshakes' | 'envelopes';
const HELD: readonly Held[] = ['handshakes', 'envelopes'];

export class Share {
  readonly #accounts: Accounts;
  #account: Account;
  readonly #held: number[] = [];
  /** Bytes of envelopes and waiting commands, for which whole KiB were taken. */
  #envelopeBytes = 0;

  /** @param address of the client, or the name it goes by where it has none. */
  constructor(accounts: Accounts, ip: Ip | null, address: string, trusted: boolean) {
    this.#accounts = accounts;
    this.#account = accounts.accountOf(ip, trusted, address);
  }

  get account(): Account {
    return this.#account;
  }

  /** The client is another one now: what is held goes over to its account. */
  moved(ip: Ip | null, address: string, trusted: boolean): void {
    const next = this.#accounts.accountOf(ip, trusted, address);
    for (const resource of HELD) {
      const amount = this.held(resource);
      if (amount === 0) continue;
      this.#accounts.give(this.#account, resource, amount);
      this.#accounts.count(next, resource, amount);
    }
    this.#account = next;
  }

  /** Those who proved who they are have a wider share. */
  trust(trusted: boolean): void {
    this.#account = { ...this.#account, trusted };
  }

  held(resource: Held): number {
    return this.#held[RESOURCES[resource].number] ?? 0;
  }

  take(resource: Held, amount: number): boolean {
    if (!this.#accounts.take(this.#account, resource, amount)) return false;
    this.#held[RESOURCES[resource].number] = this.held(resource) + amount;
    return true;
  }

  give(resource: Held, amount: number): void {
    const held = Math.min(amount, this.held(resource));
    if (held === 0) return;
    this.#held[RESOURCES[resource].number] = this.held(resource) - held;
    this.#accounts.give(this.#account, resource, held);
  }

  /** Takes bytes for a recipient or for a command that waits; the account moves by whole KiB. */
  takeEnvelope(bytes: number): boolean {
    const after = this.#envelopeBytes + bytes;
    const more = Math.ceil(after / KIB) - this.held('envelopes');
    if (more > 0 && !this.take('envelopes', more)) return false;
    this.#envelopeBytes = after;
    return true;
  }

  giveEnvelope(bytes: number): void {
    this.#envelopeBytes = Math.max(0, this.#envelopeBytes - bytes);
    this.#giveAbove(Math.ceil(this.#envelopeBytes / KIB));
  }

  /** The transaction ended. */
  endEnvelope(): void {
    this.#envelopeBytes = 0;
    this.#giveAbove(0);
  }

  #giveAbove(kib: number): void {
    this.give('envelopes', Math.max(0, this.held('envelopes') - Math.max(kib, KEPT_KIB)));
  }

  /** The envelope goes on with its message. Returns the KiB above KEPT_KIB, which the message now has to give back. */
  passEnvelope(): number {
    const held = this.held('envelopes');
    const kept = Math.min(held, KEPT_KIB);
    this.#held[RESOURCES.envelopes.number] = kept;
    this.#envelopeBytes = 0;
    return held - kept;
  }

  /** Whether so much more would fit now; takes nothing. */
  fits(resource: 'content' | 'spill' | 'handshakes', amount: number): boolean {
    return this.#accounts.fits(this.#account, resource, amount);
  }

  close(): void {
    this.#envelopeBytes = 0;
    for (const resource of HELD) this.give(resource, this.held(resource));
  }
}
