/**
 * Whom mail to postmaster and abuse of the relay's own names goes to (RFC 5321 §4.5.1, RFC 2142): the address the
 * operator configured. This relay has no mailboxes, so without one there is nobody to give such mail to, and taking it
 * would only make a bounce to whatever sender it claims.
 */
import { networkInterfaces } from 'node:os';
import { formatIp, parseIp } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import { type Path, parseMailbox } from '../protocol/address.ts';

const ROLES: ReadonlySet<string> = new Set(['postmaster', 'abuse']);

export class Postmaster {
  /** Where the mail goes; null: nobody was named. */
  readonly target: Pick<Path, 'address' | 'domain'> | null;
  readonly #names: ReadonlySet<string>;
  readonly #addresses: ReadonlySet<string>;

  /** @param machineAddresses for tests. */
  constructor(
    { hostname, postmaster, delivery, listeners }: Config,
    machineAddresses: () => string[] = ofInterfaces,
  ) {
    this.target = postmaster === undefined ? null : parseMailbox(postmaster);
    this.#names = new Set([hostname, delivery.ehlo_name ?? hostname].map((name) => name.toLowerCase()));
    const hosts = listeners.flatMap(({ host }) => (host === undefined ? [] : [host]));
    this.#addresses = new Set([...hosts, ...machineAddresses()].flatMap((text) => canonical(text) ?? []));
  }

  /** Whether this is one of our own role addresses, in whatever spelling; `<postmaster>` alone is one. */
  isOurs({ address, domain }: Pick<Path, 'address' | 'domain'>): boolean {
    // The hot path: hardly any recipient is at one of our own names.
    if (domain !== '' && !this.#isOwn(domain)) return false;
    const local = domain === '' ? address : address.slice(0, address.lastIndexOf('@'));
    return ROLES.has(unquoted(local).toLowerCase());
  }

  #isOwn(domain: string): boolean {
    if (!domain.startsWith('[')) return this.#names.has(domain.endsWith('.') ? domain.slice(0, -1) : domain);
    const ip = canonical(domain.slice(1, -1).replace(/^ipv6:/i, ''));
    return ip !== null && this.#addresses.has(ip);
  }
}

function unquoted(local: string): string {
  return local.startsWith('"') ? local.slice(1, -1).replace(/\\(.)/g, '$1') : local;
}

/** Leading zeros are in the grammar of literals (RFC 5321 §4.1.3). */
function canonical(text: string): string | null {
  const ip = parseIp(text.includes(':') ? text : text.replace(/(^|\.)0+(?=\d)/g, '$1'));
  return ip === null ? null : formatIp(ip);
}

function ofInterfaces(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).map(({ address }) => address),
  );
}
