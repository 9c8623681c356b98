import { domainKey } from '../base/domain.ts';
import { parseIp } from '../base/ip.ts';

/**
 * The scheduling key of a recipient: what its next hop depends on. With a smarthost all mail without a static
 * route shares one key, so that one transaction can carry recipients of many domains.
 */
export const SMARTHOST = 'smarthost';

/**
 * Before the domain in the key of mail that goes by MX despite whatever its host says of TLS: reports about just that
 * (RFC 8460 §3).
 */
const DESPITE_TLS = 'despite-tls:';

/** The key of a report; that of all mail where the route is the operator's. */
export function reportDestination(domain: string, table: RouteTable): string {
  const key = `${DESPITE_TLS}${domain}`;
  return table.smarthost || table.routed.has(domain) || key.length > 255 ? domain : key;
}

/** Without what is before it. */
export const domainOfReport = (destination: string): string | null =>
  destination.startsWith(DESPITE_TLS) ? destination.slice(DESPITE_TLS.length) : null;

export interface RouteTable {
  smarthost: boolean;
  /** Domains with a static route, in the form of base/domain.ts. */
  routed: ReadonlySet<string>;
}

export function destinationOf(domain: string, table: RouteTable): string {
  if (table.routed.has(domain)) return domain;
  return table.smarthost ? SMARTHOST : domain;
}

/** Of a domain or key as older versions stored it: some had their domains as they were written. */
export function storedDestination(stored: string, table: RouteTable): string {
  return destinationOf(domainKey(stored), table);
}

/** A destination as an operator writes it, as a key; an address is the literal of it. */
export function destinationKey(written: string): string {
  const prefix = written.startsWith(DESPITE_TLS) ? DESPITE_TLS : '';
  const domain = written.slice(prefix.length);
  const literal = parseIp(domain.replace(/^ipv6:/i, '')) === null ? domain : `[${domain}]`;
  return prefix + domainKey(literal);
}

/** Of the form of keys: with another one all that waits is keyed anew. */
const FORM = 2;

/** Text that is equal when two route tables send every domain to the same destination. */
export function fingerprint(routes: RouteTable): string {
  return JSON.stringify([FORM, routes.smarthost, [...routes.routed].sort()]);
}
