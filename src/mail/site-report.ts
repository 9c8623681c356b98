/** What a relay process knows of the sites that it sends to, for `shaping suggest`. */

export interface SiteHost {
  name: string;
  addresses: string[];
}

export interface SiteReport {
  site: string;
  /** '' where it is of none. */
  provider: string;
  /** MX hosts of the best preference that mail was to go to, of all domains of the site. */
  hosts: SiteHost[];
  /** Messages that its hosts took, the recipients of these, and connections opened, since then (a time of day). */
  messages: number;
  recipients: number;
  connections: number;
  sinceMs: number;
}

/** So many sites are told of. */
export const MAX_REPORTED = 5000;
/** Of a site. */
export const MAX_HOSTS = 16;
export const MAX_ADDRESSES = 8;

/** What several processes say, as one; the sites with most mail come first. */
export function mergeSiteReports(parts: readonly (readonly SiteReport[])[]): SiteReport[] {
  const bySite = new Map<string, SiteReport>();
  for (const report of parts.flat()) {
    const known = bySite.get(report.site);
    if (known === undefined) {
      bySite.set(report.site, { ...report, hosts: report.hosts.map((host) => ({ ...host })) });
      continue;
    }
    known.messages += report.messages;
    known.recipients += report.recipients;
    known.connections += report.connections;
    known.sinceMs = Math.min(known.sinceMs, report.sinceMs);
    for (const { name, addresses } of report.hosts) addHost(known.hosts, name, addresses);
  }
  return [...bySite.values()].sort((a, b) => b.messages - a.messages).slice(0, MAX_REPORTED);
}

export function addHost(hosts: SiteHost[], name: string, addresses: readonly string[]): void {
  let host = hosts.find((one) => one.name === name);
  if (host === undefined) {
    if (hosts.length >= MAX_HOSTS) return;
    host = { name, addresses: [] };
    hosts.push(host);
  }
  for (const address of addresses)
    if (host.addresses.length < MAX_ADDRESSES && !host.addresses.includes(address))
      host.addresses.push(address);
}
