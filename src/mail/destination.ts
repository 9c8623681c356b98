import { domainKey } from '../base/domain.ts';
import { parseIp } from '../base/ip.ts';
import { isOperatorKey, viaKey } from './operator-keys.ts';

/**
 * The scheduling key of a recipient: what its next hop depends on. With a smarthost all mail without a static
 * route shares one key, so that one transaction can carry recipients of many domains.
 */
export const SMARTHOST = 'smarthost';

/**
 * Prefix of the domain in the key of TLS reports, which go by MX whatever the domain has published about TLS: they may
 * report that just this failed (RFC 8460 §3).
 */
const DESPITE_TLS = 'despite-tls:';

/** The key of a TLS report; where the operator routes the domain, it is that of the domain's other mail. */
export function reportDestination(domain: string, table: RouteTable): string {
  const key = `${DESPITE_TLS}${domain}`;
  return table.smarthost || table.routed.has(domain) || key.length > 255 ? domain : key;
}

/** The domain in the key of a report; null when it is no such key. */
export const domainOfReport = (destination: string): string | null =>
  destination.startsWith(DESPITE_TLS) ? destination.slice(DESPITE_TLS.length) : null;

export interface RouteTable {
  smarthost: boolean;
  /** Domains with a static route, in the form of base/domain.ts. */
  routed: ReadonlySet<string>;
}

export function destinationOf(domain: string, table: RouteTable): string {
  if (table.routed.has(domain)) return domain;
  if (table.smarthost) return SMARTHOST;
  // The grammar of addresses lets no such domain in: if one came all the same, it would be a literal that nobody knows.
  return isOperatorKey(domain) ? `[${domain}]` : domain;
}

/** The key for a domain or key that an older version stored: some stored domains as they were written. */
export function storedDestination(stored: string, table: RouteTable): string {
  return destinationOf(domainKey(stored), table);
}

/** The key for a destination as an operator writes it; an address stands for its literal. */
export function destinationKey(written: string): string {
  const via = written.startsWith('via:') ? viaKey(written.slice('via:'.length)) : null;
  if (via !== null) return via;
  const prefix = written.startsWith(DESPITE_TLS) ? DESPITE_TLS : '';
  const domain = written.slice(prefix.length);
  const literal = parseIp(domain.replace(/^ipv6:/i, '')) === null ? domain : `[${domain}]`;
  return prefix + domainKey(literal);
}

/** Version of the form of keys: when it changes, all waiting rows are keyed anew. */
const FORM = 2;

/** Text that is equal when two route tables send every domain to the same destination. */
export function fingerprint(routes: RouteTable): string {
  return JSON.stringify([FORM, routes.smarthost, [...routes.routed].sort()]);
}
