/**
 * What one session holds of what clients share, booked on its client's account. Whatever way the session ends, `close`
 * gives back exactly what is left.
 */
import type { Ip } from '../base/ip.ts';
import { type Account, type Accounts, RESOURCES } from './accounts.ts';

const KIB = 1024;
/**
 * Of envelopes a session keeps so much from one transaction to the next, and passes on only what is above it: the envelope
 * of a usual message then costs the shared counts nothing. What of it is on its way is bounded by the messages in flight.
 */
const KEPT_KIB = 2;

/** What sessions themselves take; content is taken by the reactor as it comes in. */
type Held = 'handshakes' | 'envelopes';
const HELD: readonly Held[] = ['handshakes', 'envelopes'];

export class Share {
  readonly #accounts: Accounts;
  #account: Account;
  readonly #held: number[] = [];
  /** Bytes of envelopes within the KiB that were taken. */
  #envelopeBytes = 0;

  /** @param address the client's, or its name where it has none. */
  constructor(accounts: Accounts, ip: Ip | null, address: string, trusted: boolean) {
    this.#accounts = accounts;
    this.#account = accounts.accountOf(ip, trusted, address);
  }

  get account(): Account {
    return this.#account;
  }

  /** The client is another one: what is held goes over to its account. */
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

  /** Of those who proved who they are the share is wider. */
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

  /** Bytes of a recipient, or of a command that waits; the account moves by whole KiB. */
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

  /** The envelope goes on with its message, which is booked on the same account; how many KiB beyond what is kept. */
  passEnvelope(): number {
    const held = this.held('envelopes');
    const kept = Math.min(held, KEPT_KIB);
    this.#held[RESOURCES.envelopes.number] = kept;
    this.#envelopeBytes = 0;
    return held - kept;
  }

  /** Whether so much more would fit now. */
  fits(resource: 'content' | 'spill' | 'handshakes', amount: number): boolean {
    return this.#accounts.fits(this.#account, resource, amount);
  }

  close(): void {
    this.#envelopeBytes = 0;
    for (const resource of HELD) this.give(resource, this.held(resource));
  }
}
