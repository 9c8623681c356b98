/**
 * What a relay process sends to each site since it knows it, and by which hosts. Bounded: beyond MAX_SITES the one that mail was
 * sent to least lately is forgotten.
 */
import { mostRecent } from '../base/most-recent.ts';
import type { AttemptResult } from '../mail/job.ts';
import { addHost, MAX_REPORTED, type SiteHost, type SiteReport } from '../mail/site-report.ts';
import type { LimitKey, SiteHosts } from './limit-key.ts';

const MAX_SITES = 20_000;

interface Traffic {
  provider: string;
  hosts: SiteHost[];
  messages: number;
  recipients: number;
  connections: number;
  sinceMs: number;
}

export class SiteTraffic {
  readonly #sites = mostRecent<Traffic>(MAX_SITES);
  /** Time of day. */
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Results of attempts: those of one site mostly come together. */
  take(results: readonly AttemptResult[]): void {
    let site: string | undefined;
    let traffic: Traffic | null = null;
    for (const result of results) {
      if (result.site === undefined) continue;
      let recipients = 0;
      for (const { outcome, seqs } of result.groups)
        if (outcome.kind === 'delivered') recipients += seqs.length;
      if (recipients === 0) continue;
      if (traffic === null || result.site !== site) {
        site = result.site;
        traffic = this.#of(site);
      }
      traffic.messages++;
      traffic.recipients += recipients;
    }
  }

  /** A delivery thread found hosts of a site. */
  found({ site, provider, hosts }: SiteHosts): void {
    const traffic = this.#of(site);
    traffic.provider = provider;
    for (const { name, addresses } of hosts) addHost(traffic.hosts, name, addresses);
  }

  /** A key of limits is given up; so many connections were opened under it. */
  opened({ site, source }: LimitKey, connections: number): void {
    if (source !== null && connections > 0) this.#of(site).connections += connections;
  }

  /** The sites with most mail. @param opened connections under keys that are in use. */
  report(opened: ReadonlyMap<string, number>): SiteReport[] {
    const all: SiteReport[] = [];
    for (const [site, traffic] of this.#sites.entries())
      all.push({ site, ...traffic, connections: traffic.connections + (opened.get(site) ?? 0) });
    return all.sort((a, b) => b.messages - a.messages).slice(0, MAX_REPORTED);
  }

  #of(site: string): Traffic {
    let traffic = this.#sites.get(site);
    if (traffic === undefined) {
      traffic = { provider: '', hosts: [], messages: 0, recipients: 0, connections: 0, sinceMs: this.#now() };
      this.#sites.set(site, traffic);
    }
    return traffic;
  }
}
