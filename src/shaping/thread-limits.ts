/**
 * The limits of sites in a delivery thread. A slot is asked of the main thread once for each limit key, and kept while
 * destinations use it and for some time after; the news of a turn go out together. Bounded: beyond MAX_IDLE_KEYS those that
 * nobody uses are given up.
 */

import { mostRecent } from '../base/most-recent.ts';
import { LaneLimits } from './lane-limits.ts';
import type { LimitKey, LimitNews, SlotOf } from './limit-key.ts';
import { limitKeyText } from './limit-key.ts';
import { createLimitTable, LimitSlot } from './limit-table.ts';
import type { Limits } from './limits.ts';
import { limitsOfSource, type Provider, type ShapingData } from './shaping-data.ts';
import { type MxHost, type Site, Sites } from './sites.ts';
import { ALL, slotLimits } from './slot-limits.ts';

const MAX_IDLE_KEYS = 5000;
/** Addresses of a site that are told. */
const MAX_TOLD = 64;

interface HostAddress {
  name: string;
  address: string;
}

export interface ThreadLimitsPorts {
  table: SharedArrayBuffer;
  post(news: LimitNews): void;
  /** Calls once the turn is over. */
  later(work: () => void): void;
}

interface Key {
  slot: LimitSlot | null;
  users: number;
  waiters: (() => void)[];
}

export class ThreadLimits {
  readonly #ports: ThreadLimitsPorts;
  readonly #keys = new Map<string, Key>();
  readonly #lanes = new Map<string, LaneLimits>();
  #idle = 0;
  #news: LimitNews = nothing();
  /** Hosts of sites that the main thread was told of. */
  readonly #told = mostRecent<Set<string>>(MAX_IDLE_KEYS);
  #data: ShapingData;
  #sites: Sites;
  #providers: Map<string, Provider>;

  constructor(data: ShapingData, ports: ThreadLimitsPorts) {
    this.#ports = ports;
    this.#data = data;
    this.#sites = new Sites(data.providers, data.rollup);
    this.#providers = byName(data);
  }

  /** Takes new data. What lanes hold of the old ones is theirs until they ask again. */
  reconfigure(data: ShapingData): void {
    this.#data = data;
    this.#sites = new Sites(data.providers, data.rollup);
    this.#providers = byName(data);
    this.#lanes.clear();
  }

  siteOf(domain: string, hosts: readonly MxHost[]): Site {
    return this.#sites.of(domain, hosts);
  }

  /** The provider that the name of an MX host belongs to; '' for none. */
  providerOfHost(host: string): string {
    return this.#sites.providers.ofHost(host)?.name ?? '';
  }

  /** What the data say of a site, as plain limits. */
  dataOf({ provider }: Site): Pick<Provider, 'limits' | 'total' | 'sources'> {
    return this.#providers.get(provider) ?? this.#data;
  }

  /** Tells the main thread which site a destination belongs to, and by which hosts mail goes there. */
  belongs(destination: string, { key: site, provider }: Site, hosts: readonly HostAddress[]): void {
    const news = this.#tell();
    news.sites.push({ destination, site, provider });
    const told = this.#told.get(site) ?? new Set<string>();
    this.#told.set(site, told);
    for (const { name, address } of hosts) {
      const text = `${name} ${address}`;
      if (told.size >= MAX_TOLD || told.has(text)) continue;
      told.add(text);
      news.hosts.push({ site, provider, hosts: [{ name, addresses: [address] }] });
    }
  }

  /** The limits of a site for a source; to be given up by `release`. */
  async enter(site: Site, source: string): Promise<LaneLimits> {
    const data = this.dataOf(site);
    const { total } = data;
    const limits = limitsOfSource(data, source);
    const own = { site: site.key, provider: site.provider, source };
    const slots = [this.#use(own, limits)];
    if (Object.keys(total).length > 0) slots.push(this.#use({ ...own, source: null }, total));
    const [first, second] = await Promise.all(slots);
    const name = limitKeyText(own);
    const known = this.#lanes.get(name);
    if (known !== undefined) return known;
    const lane = new LaneLimits(site, source, limits, first as LimitSlot, second ?? null, (sign) =>
      this.#tell().signs.push({ key: own, ...sign }),
    );
    this.#lanes.set(name, lane);
    return lane;
  }

  release({ site, source, hasTotal }: LaneLimits): void {
    const own = { site: site.key, provider: site.provider, source };
    this.#leave(limitKeyText(own));
    if (hasTotal) this.#leave(limitKeyText({ ...own, source: null }));
    if (this.#idle > MAX_IDLE_KEYS) this.#forget();
  }

  /** The main thread's answer. */
  slots(answers: readonly SlotOf[]): void {
    for (const { key: name, slot } of answers) {
      const key = this.#keys.get(name);
      if (key === undefined || key.slot !== null) continue;
      if (slot >= 0) key.slot = new LimitSlot(this.#ports.table, slot);
      for (const resolve of key.waiters.splice(0)) resolve();
    }
  }

  async #use(of: LimitKey, limits: Limits): Promise<LimitSlot> {
    const name = limitKeyText(of);
    let key = this.#keys.get(name);
    if (key === undefined) {
      key = { slot: null, users: 0, waiters: [] };
      this.#keys.set(name, key);
      this.#tell().ask.push(of);
    } else if (key.users === 0) this.#idle--;
    key.users++;
    const asked = key;
    if (asked.slot === null) await new Promise<void>((resolve) => asked.waiters.push(resolve));
    asked.slot ??= spareSlot(limits);
    return asked.slot;
  }

  #leave(name: string): void {
    const key = this.#keys.get(name);
    if (key !== undefined && --key.users === 0) this.#idle++;
  }

  /** Gives up half of the keys that nobody uses. */
  #forget(): void {
    for (const [name, { users, slot }] of this.#keys) {
      if (users > 0 || slot === null) continue;
      this.#keys.delete(name);
      this.#lanes.delete(name);
      this.#tell().free.push(name);
      if (--this.#idle <= MAX_IDLE_KEYS / 2) return;
    }
  }

  #tell(): LimitNews {
    const news = this.#news;
    if (isNothing(news))
      this.#ports.later(() => {
        this.#news = nothing();
        this.#ports.post(news);
      });
    return news;
  }
}

/** For a key that found no room in the table: its limits hold for this thread alone. It goes when the key does. */
function spareSlot(limits: Limits): LimitSlot {
  const slot = new LimitSlot(createLimitTable(1), 0);
  slot.clear();
  slot.write(slotLimits(limits, {}, ALL));
  return slot;
}

const byName = ({ providers }: ShapingData): Map<string, Provider> =>
  new Map(providers.map((provider) => [provider.name, provider]));

const nothing = (): LimitNews => ({ ask: [], free: [], sites: [], signs: [], hosts: [] });
const isNothing = (news: LimitNews): boolean => Object.values(news).every(({ length }) => length === 0);
