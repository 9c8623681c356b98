/** What a delivery thread knows of sources: which one a message leaves from, and how connections are made from it. */
import { isIP } from 'node:net';
import type { Config } from '../config/schema.ts';
import { type EgressProxy, parseProxy } from './hop.ts';
import { type Choice, type May, Pools } from './pools.ts';
import { type Routed, Routing } from './routing.ts';

/** The name of `delivery.source_address`, which is no source of the config. */
export const DEFAULT_SOURCE = '';

/** How connections are made from a source. */
export interface EgressSource {
  name: string;
  /** '' for any. */
  address: string;
  /** Hosts of this family only; 0: of both. */
  family: 0 | 4 | 6;
  ehloName: string;
  /** Port of MX hosts. */
  mxPort: number;
  proxy: EgressProxy | null;
  /** Most connections of this thread. */
  maxConnections: number;
}

export type EgressConfig = Pick<Config, 'egress' | 'hostname'> & {
  delivery: Pick<Config['delivery'], 'ehlo_name' | 'source_address' | 'mx_port'>;
};

export class Egress {
  readonly #sources = new Map<string, EgressSource>();
  readonly #pools: Pools;
  readonly #routing: Routing;
  readonly #usable = new Set<string>();
  /** Sources whose address is not on this host now. */
  #missing: ReadonlySet<string> = new Set();
  /** false: there is nothing to choose, all mail leaves from the default source. */
  readonly active: boolean;

  constructor(config: EgressConfig) {
    const { sources, routing } = config.egress;
    this.#pools = new Pools(config.egress);
    this.#routing = new Routing(routing);
    this.active = sources.length > 0;
    for (const source of sources) {
      this.#sources.set(source.name, sourceOf(source, config));
      if (source.enabled) this.#usable.add(source.name);
    }
    this.#sources.set(DEFAULT_SOURCE, defaultSource(config));
  }

  /** A source that the config no longer has is as the default. */
  source(name: string): EgressSource {
    return (this.#sources.get(name) ?? this.#sources.get(DEFAULT_SOURCE)) as EgressSource;
  }

  /** Says which sources have no address on this host, as the main thread has seen. */
  setMissing(missing: readonly string[]): void {
    this.#missing = new Set(missing);
  }

  /**
   * @param may whether limits let this source send there now. @param avoid a source that was refused lately.
   * @returns null: the message waits, because no source may send.
   */
  choose(routed: Routed, queueId: string, may: May, avoid = ''): Choice | null {
    const { pool } = this.#routing.poolOf(routed);
    if (pool === '') return { source: DEFAULT_SOURCE, pool };
    const known = this.#pools.get(pool);
    // A message may name a pool that the config no longer has; then the rules decide.
    if (known === undefined)
      return routed.pool === '' ? null : this.choose({ ...routed, pool: '' }, queueId, may, avoid);
    const usable: May = (source) => this.#usable.has(source) && !this.#missing.has(source) && may(source);
    return this.#pools.choose(pool, queueId, usable, known.retry_other_source ? avoid : '');
  }
}

function sourceOf(source: Config['egress']['sources'][number], config: EgressConfig): EgressSource {
  const proxy = source.proxy === undefined ? null : parseProxy(source.proxy);
  return {
    ...defaultSource(config),
    name: source.name,
    address: source.address ?? '',
    family: isIP(source.address ?? '') as 0 | 4 | 6,
    ...(source.ehlo_name === undefined ? {} : { ehloName: source.ehlo_name }),
    ...(source.port === 0 ? {} : { mxPort: source.port }),
    // The config has been checked.
    proxy: proxy === null || 'wrong' in proxy ? null : proxy,
    maxConnections: source.max_connections === 0 ? Number.POSITIVE_INFINITY : source.max_connections,
  };
}

function defaultSource({ hostname, delivery }: EgressConfig): EgressSource {
  const address = delivery.source_address ?? '';
  return {
    name: DEFAULT_SOURCE,
    address,
    // As it always was: hosts of the other family fail, and the next one is tried.
    family: 0,
    ehloName: delivery.ehlo_name ?? hostname,
    mxPort: delivery.mx_port,
    proxy: null,
    maxConnections: Number.POSITIVE_INFINITY,
  };
}
