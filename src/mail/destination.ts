/**
 * The scheduling key of a recipient: what its next hop depends on. With a smarthost all mail without a static
 * route shares one key, so that one transaction can carry recipients of many domains.
 */
export const SMARTHOST = 'smarthost';

export interface RouteTable {
  smarthost: boolean;
  /** Domains with a static route (lower case). */
  routed: ReadonlySet<string>;
}

export function destinationOf(domain: string, table: RouteTable): string {
  if (table.routed.has(domain)) return domain;
  return table.smarthost ? SMARTHOST : domain;
}

/** Text that is equal when two route tables send every domain to the same destination. */
export function fingerprint(routes: RouteTable): string {
  return JSON.stringify([routes.smarthost, [...routes.routed].sort()]);
}
