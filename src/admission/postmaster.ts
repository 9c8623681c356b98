/**
 * Whom mail to postmaster and abuse at the relay's own names goes to (RFC 5321 §4.5.1, RFC 2142): the address that the
 * operator configured. This relay has no mailboxes, so without such an address there is nobody to give this mail to, and
 * taking it would only make a bounce to whatever sender it names.
 */
import { networkInterfaces } from 'node:os';
import { domainForm, domainKey } from '../base/domain.ts';
import type { Config } from '../config/schema.ts';
import { type Path, parseMailbox, unquotedLocal } from '../protocol/address.ts';

const ROLES: ReadonlySet<string> = new Set(['postmaster', 'abuse']);

export class Postmaster {
  /** Where the mail goes; null: no address is configured. */
  readonly target: Pick<Path, 'address' | 'domain'> | null;
  readonly #names: ReadonlySet<string>;
  readonly #literals: ReadonlySet<string>;

  /** @param machineAddresses for tests. */
  constructor(
    { hostname, postmaster, delivery, listeners }: Config,
    machineAddresses: () => string[] = ofInterfaces,
  ) {
    this.target = postmaster === undefined ? null : parseMailbox(postmaster);
    this.#names = new Set([hostname, delivery.ehlo_name ?? hostname].map(domainKey));
    const hosts = listeners.flatMap(({ host }) => (host === undefined ? [] : [host]));
    const literals = [...hosts, ...machineAddresses()].map((address) => address.split('%')[0] as string);
    this.#literals = new Set(literals.map(literalOf));
  }

  /** Whether this is one of our own role addresses, in whatever spelling; `<postmaster>` alone is one. */
  isOurs({ address, domain }: Pick<Path, 'address' | 'domain'>): boolean {
    // First, for the hot path: hardly any recipient is at one of our own names.
    if (domain !== '' && !this.#names.has(domain) && !this.#literals.has(domain)) return false;
    const local = domain === '' ? address : address.slice(0, address.lastIndexOf('@'));
    return ROLES.has(unquotedLocal(local).toLowerCase());
  }
}

const literalOf = (address: string): string =>
  domainForm(address.includes(':') ? `[IPv6:${address}]` : `[${address}]`) ?? address;

function ofInterfaces(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).map(({ address }) => address),
  );
}
