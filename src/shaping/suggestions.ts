/**
 * Sites that look like one, and what was learned of peers that a file could say: each with the lines for the overrides file
 * (RFC 7396, so a list in it is the whole list). Pure.
 */

import type { SiteReport } from '../mail/site-report.ts';
import type { LearnedLimit } from './learned/learned-limits.ts';
import { registrableDomain } from './registrable-domain.ts';
import type { Provider } from './shaping-data.ts';

export interface Alike {
  /** What they share: the registered domain of their MX hosts, or an address. */
  by: 'mx_domain' | 'address';
  value: string;
  /** Those with most mail first. */
  sites: SiteReport[];
  overrides: Overrides;
}

export interface Overrides {
  providers: Record<string, ProviderPatch>;
}

type ProviderPatch = { match?: Partial<Provider['match']> } & Partial<Record<LearnedLimit['limit'], number>>;

export interface LearnedToFix {
  site: string;
  limit: LearnedLimit['limit'];
  /** Of all processes together. */
  value: number;
  /** What the files say; null: nothing. */
  now: number | null;
  overrides: Overrides;
}

/** @param known the providers that there are. */
export function alikeSites(sites: readonly SiteReport[], known: readonly Provider[]): Alike[] {
  const groups = new Groups(sites);
  for (const site of sites) {
    // Hosts of several owners say nothing of whose the site is.
    const domains = new Set(site.hosts.map(({ name }) => registrableDomain(name)));
    const [domain] = domains;
    if (domains.size === 1 && domain !== undefined) groups.join('mx_domain', domain, site);
    for (const { addresses } of site.hosts)
      for (const address of addresses) groups.join('address', address, site);
  }
  return groups
    .all()
    .map(({ by, value, members }) => ({
      by,
      value,
      sites: members.sort((a, b) => b.messages - a.messages),
      overrides: overridesFor(by, value, members, known),
    }))
    .filter(({ sites: members }) => isNews(members))
    .sort((a, b) => messagesOf(b) - messagesOf(a));
}

/** Providers are told apart by who made the data. */
const isNews = (members: readonly SiteReport[]): boolean => members.some(({ provider }) => provider === '');

const messagesOf = ({ sites }: Alike): number => sites.reduce((sum, { messages }) => sum + messages, 0);

interface Group {
  by: Alike['by'];
  value: string;
  members: SiteReport[];
}

/** Sites that share something, also by way of a third. */
class Groups {
  readonly #groupOf = new Map<SiteReport, Group>();
  readonly #first = new Map<string, SiteReport>();

  constructor(sites: readonly SiteReport[]) {
    for (const site of sites) this.#groupOf.set(site, { by: 'address', value: '', members: [site] });
  }

  join(by: Alike['by'], value: string, site: SiteReport): void {
    const other = this.#first.get(`${by} ${value}`);
    if (other === undefined) {
      this.#first.set(`${by} ${value}`, site);
      return;
    }
    const [into, from] = [this.#groupOf.get(other) as Group, this.#groupOf.get(site) as Group];
    if (into === from) return;
    if (into.value === '') Object.assign(into, { by, value });
    for (const member of from.members) this.#groupOf.set(member, into);
    into.members.push(...from.members);
  }

  all(): Group[] {
    return [...new Set(this.#groupOf.values())].filter(({ members }) => members.length > 1);
  }
}

function overridesFor(
  by: Alike['by'],
  value: string,
  members: readonly SiteReport[],
  known: readonly Provider[],
): Overrides {
  const strangers = members.filter(({ provider }) => provider === '');
  const provider = known.find(({ name }) => members.some((member) => member.provider === name));
  const hosts = [...new Set(strangers.flatMap((site) => site.hosts.map(({ name }) => name)))].sort();
  if (provider !== undefined) {
    const mx_exact = [...new Set([...provider.match.mx_exact, ...hosts])];
    return { providers: { [provider.name]: { match: { mx_exact } } } };
  }
  const isAllBelow = by === 'mx_domain' && hosts.every((name) => registrableDomain(name) === value);
  const name = nameFor(by === 'mx_domain' ? value : registrableDomain(hosts[0] ?? value), known);
  return { providers: { [name]: { match: isAllBelow ? { mx_suffix: [value] } : { mx_exact: hosts } } } };
}

/** Names of providers are of these characters, and there is one of each name. */
function nameFor(domain: string, known: readonly Provider[]): string {
  const plain =
    domain
      .replace(/[^a-z0-9_.-]/g, '-')
      .replace(/^[^a-z0-9]+/, '')
      .slice(0, 60) || 'provider';
  const taken = new Set(known.map(({ name }) => name));
  let name = plain;
  for (let i = 2; taken.has(name); i++) name = `${plain}-${i}`;
  return name;
}

/**
 * @param learned what each process has learned: connections of several add up, of messages the least counts; over sources the least.
 * @param sites with the hosts of sites that are no providers; without these there are no lines for them.
 */
export function learnedToFix(
  learned: readonly (readonly LearnedLimit[])[],
  sites: readonly SiteReport[],
  known: readonly Provider[],
  now: (provider: string, limit: LearnedLimit['limit']) => number | null,
): LearnedToFix[] {
  const least = new Map<string, { site: string; limit: LearnedLimit['limit']; value: number }>();
  for (const ofProcess of learned) {
    const here = new Map<string, LearnedLimit>();
    for (const one of ofProcess) {
      const before = here.get(`${one.limit} ${one.site}`);
      if (before === undefined || one.value < before.value) here.set(`${one.limit} ${one.site}`, one);
    }
    for (const [name, { site, limit, value }] of here) {
      const before = least.get(name);
      if (before === undefined) least.set(name, { site, limit, value });
      else if (limit === 'max_connections') before.value += value;
      else before.value = Math.min(before.value, value);
    }
  }
  return [...least.values()]
    .map(({ site, limit, value }) => {
      const isNamed = known.some(({ name }) => name === site);
      const patch = isNamed ? { [site]: { [limit]: value } } : ofHosts(site, limit, value, sites, known);
      return { site, limit, value, now: now(isNamed ? site : '', limit), overrides: { providers: patch } };
    })
    .filter((one) => one.now === null || one.now === 0 || one.value < one.now)
    .sort((a, b) => (a.site < b.site ? -1 : 1));
}

function ofHosts(
  site: string,
  limit: LearnedLimit['limit'],
  value: number,
  sites: readonly SiteReport[],
  known: readonly Provider[],
): Overrides['providers'] {
  const hosts = sites.find((one) => one.site === site)?.hosts.map(({ name }) => name) ?? hostsIn(site);
  if (hosts.length === 0) return {};
  const name = nameFor(registrableDomain(hosts[0] as string), known);
  return { [name]: { match: { mx_exact: [...hosts].sort() }, [limit]: value } };
}

/** The hosts that a site is named by; none where the name is cut. */
const hostsIn = (site: string): string[] =>
  site.startsWith('mx:') && !site.includes('~') ? site.slice('mx:'.length).split(',') : [];

/** All of it as one patch. */
export function together(all: readonly Overrides[]): Overrides {
  const providers: Overrides['providers'] = {};
  for (const patch of all)
    for (const [name, { match, ...limits }] of Object.entries(patch.providers)) {
      const before = providers[name] ?? {};
      const lists = { ...before.match, ...match };
      providers[name] = { ...before, ...limits, ...(Object.keys(lists).length > 0 ? { match: lists } : {}) };
    }
  return { providers };
}
