/**
 * The site of a domain: what its limits are shared by. A provider, where it belongs to one; else, by `shaping.rollup`,
 * all domains with the same MX hosts, or with MX hosts under the same registrable domain, or the domain alone. Worked out
 * from what DNS says each time, never stored.
 */
import { createHash } from 'node:crypto';
import { type Match as ProviderMatch, Providers } from './providers.ts';
import { registrableDomain } from './registrable-domain.ts';
import type { Provider, Rollup } from './shaping-data.ts';

export interface Site {
  /** `google`, `mx:mx1.example.net,mx2.example.net`, `mx:example.net` or `domain:example.com`. */
  key: string;
  /** '' where the domain belongs to none. */
  provider: string;
}

/** An MX host of a domain; its name is in the form of base/domain.ts. */
export interface MxHost {
  preference: number;
  exchange: string;
}

/** A key stands in events and tables; the names of more hosts than fit are in its hash. */
const MAX_KEY = 200;

export class Sites {
  readonly providers: Providers;
  readonly #rollup: Rollup;

  constructor(providers: readonly Provider[], rollup: Rollup) {
    this.providers = new Providers(providers);
    this.#rollup = rollup;
  }

  /** @param hosts the MX hosts; none where the domain has no MX records and is its own host (RFC 5321 §5.1). */
  of(domain: string, hosts: readonly MxHost[]): Site {
    const known: readonly MxHost[] = hosts.length === 0 ? [{ preference: 0, exchange: domain }] : hosts;
    const provider = this.providerOf(domain, known);
    if (provider !== null) return { key: provider.name, provider: provider.name };
    return { key: this.#rolledUp(domain, known), provider: '' };
  }

  providerOf(domain: string, hosts: readonly MxHost[]): Provider | null {
    return this.providers.of(bestOf(hosts), domain);
  }

  /** By which name of the data the domain belongs to its provider; null where it belongs to none. */
  matchOf(domain: string, hosts: readonly MxHost[]): ProviderMatch | null {
    return this.providers.matchOf(bestOf(hosts), domain);
  }

  #rolledUp(domain: string, hosts: readonly MxHost[]): string {
    if (this.#rollup === 'none') return `domain:${domain}`;
    const names = [...new Set(hosts.map(({ exchange }) => exchange))].sort();
    if (this.#rollup === 'mx_set') return keyOf(names);
    const registrable = new Set(bestOf(hosts).map(registrableDomain));
    // Hosts of several owners have no common limit.
    return registrable.size === 1 ? keyOf([...registrable]) : keyOf(names);
  }
}

function bestOf(hosts: readonly MxHost[]): string[] {
  let best = Number.POSITIVE_INFINITY;
  for (const { preference } of hosts) best = Math.min(best, preference);
  return hosts.filter(({ preference }) => preference === best).map(({ exchange }) => exchange);
}

function keyOf(names: readonly string[]): string {
  const key = `mx:${names.join(',')}`;
  if (key.length <= MAX_KEY) return key;
  const digest = createHash('sha256').update(key).digest('hex').slice(0, 16);
  return `${key.slice(0, MAX_KEY - digest.length - 1)}~${digest}`;
}
