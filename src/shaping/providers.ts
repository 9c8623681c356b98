/**
 * Which provider a domain or a host belongs to. The rules go in this order: ends of names of MX hosts (the longest that
 * fits), names of MX hosts, domains. Names are in the form of base/domain.ts.
 */
import type { Provider } from './shaping-data.ts';

/** The list of a provider, and the name in it, that somebody belongs to it by. */
export interface Match {
  list: keyof Provider['match'];
  name: string;
}

export class Providers {
  readonly #suffixes = new Map<string, Provider>();
  readonly #hosts = new Map<string, Provider>();
  readonly #domains = new Map<string, Provider>();

  constructor(providers: readonly Provider[]) {
    for (const provider of providers) {
      const { mx_suffix, mx_exact, domain } = provider.match;
      for (const name of mx_suffix) this.#suffixes.set(name, provider);
      for (const name of mx_exact) this.#hosts.set(name, provider);
      for (const name of domain) this.#domains.set(name, provider);
    }
  }

  /** The provider that the name of an MX host belongs to. */
  ofHost(host: string): Provider | null {
    for (let from = 0; from !== -1; ) {
      const found = this.#suffixes.get(from === 0 ? host : host.slice(from));
      if (found !== undefined) return found;
      const dot = host.indexOf('.', from);
      from = dot === -1 ? -1 : dot + 1;
    }
    return this.#hosts.get(host) ?? null;
  }

  /**
   * The provider of a domain.
   * @param best its MX hosts of the best preference: they count where all of them belong to one provider.
   */
  of(best: readonly string[], domain: string): Provider | null {
    const [first, ...others] = best;
    const provider = first === undefined ? null : this.ofHost(first);
    if (provider !== null && others.every((host) => this.ofHost(host) === provider)) return provider;
    return this.#domains.get(domain) ?? null;
  }

  /** What `of` goes by. */
  matchOf(best: readonly string[], domain: string): Match | null {
    const provider = this.of(best, domain);
    if (provider === null) return null;
    const [host = ''] = best;
    if (this.ofHost(host) !== provider) return { list: 'domain', name: domain };
    const { mx_suffix } = provider.match;
    const ends = mx_suffix.filter((end) => host === end || host.endsWith(`.${end}`));
    const longest = ends.sort((a, b) => b.length - a.length)[0];
    return longest === undefined ? { list: 'mx_exact', name: host } : { list: 'mx_suffix', name: longest };
  }
}
