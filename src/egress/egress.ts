/** What a delivery thread knows of sources: which one a message leaves from, and how connections are made from it. */
import { isIP } from 'node:net';
import { netblockOf } from '../base/netblock.ts';
import { type EgressProxy, parseProxy } from '../config/egress-proxy.ts';
import type { Config } from '../config/schema.ts';
import type { Hop } from '../native/contract.ts';
import { hopTo } from './hop.ts';
import { Overflow } from './overflow.ts';
import { type PoolMove, PoolMoves } from './pool-moves.ts';
import { type May, Pools } from './pools.ts';
import { type Decision, type Routed, Routing } from './routing.ts';

/** The name of `delivery.source_address`, which is no source of the config. */
export const DEFAULT_SOURCE = '';

/** How connections are made from a source. */
export class EgressSource {
  readonly name: string;
  /** '' for any. */
  readonly address: string;
  /** Hosts of this family only; 0: of both. */
  readonly family: 0 | 4 | 6;
  readonly ehloName: string;
  /** Port of MX hosts. */
  readonly mxPort: number;
  readonly proxy: EgressProxy | null;
  /** Most connections of this thread. */
  readonly maxConnections: number;
  /** The block of its address (base/netblock.ts); ''. */
  readonly netblock: string;

  constructor(fields: Omit<EgressSource, 'way' | 'netblock'>) {
    this.name = fields.name;
    this.address = fields.address;
    this.family = fields.family;
    this.ehloName = fields.ehloName;
    this.mxPort = fields.mxPort;
    this.proxy = fields.proxy;
    this.maxConnections = fields.maxConnections;
    this.netblock = netblockOf(fields.address);
  }

  /** Where to connect to so that the connection leads to this host, and from which address of this machine. */
  way(host: { address: string; port: number }): {
    address: string;
    port: number;
    from: string;
    hop: Hop | undefined;
  } {
    const { address, proxy } = this;
    if (proxy === null) return { address: host.address, port: host.port, from: address, hop: undefined };
    const hop = hopTo(proxy, host.address, host.port, address);
    // HAProxy leaves from the address; it is reached from any.
    const from = proxy.kind === 'haproxy' ? '' : address;
    return { address: proxy.address, port: proxy.port, from, hop };
  }
}

export type EgressConfig = Pick<Config, 'egress' | 'hostname' | 'warmup'> & {
  delivery: Pick<Config['delivery'], 'ehlo_name' | 'source_address' | 'mx_port'>;
};

export class Egress {
  readonly #sources = new Map<string, EgressSource>();
  readonly #pools: Pools;
  readonly #routing: Routing;
  readonly overflow: Overflow;
  readonly #usable = new Set<string>();
  /** Sources whose address is not on this host now. */
  #missing: ReadonlySet<string> = new Set();
  moves = new PoolMoves([]);
  /** false: there is nothing to choose, all mail leaves from the default source. */
  readonly active: boolean;
  /** See Routing. */
  readonly asksForProvider: boolean;
  readonly judges: boolean;

  constructor(config: EgressConfig) {
    const { sources, routing } = config.egress;
    this.#pools = new Pools(config.egress);
    this.#routing = new Routing(routing);
    this.overflow = new Overflow(config);
    this.active = sources.length > 0;
    this.asksForProvider = this.#routing.asksForProvider;
    this.judges = this.#routing.judges;
    for (const source of sources) {
      this.#sources.set(source.name, sourceOf(source, config));
      if (source.enabled) this.#usable.add(source.name);
    }
    this.#sources.set(DEFAULT_SOURCE, defaultSource(config));
  }

  has(name: string): boolean {
    return this.#sources.has(name);
  }

  /** One that the config does not have is as the default. */
  source(name: string): EgressSource {
    return (this.#sources.get(name) ?? this.#sources.get(DEFAULT_SOURCE)) as EgressSource;
  }

  /** Says which sources have no address on this host, as the main thread has seen. */
  setMissing(missing: Iterable<string>): void {
    this.#missing = new Set(missing);
  }

  /** Sets what rules have moved to other pools, in place of what was. */
  setMoves(moves: readonly PoolMove[]): void {
    this.moves = new PoolMoves(moves);
  }

  get missing(): Iterable<string> {
    return this.#missing;
  }

  /** What rules say of a message. It may name a pool that the config does not have; then the rules alone decide. */
  decide(routed: Routed, released?: readonly string[]): Decision {
    const isUnknown = routed.pool !== '' && this.#pools.get(routed.pool) === undefined;
    return this.#routing.decide(isUnknown ? { ...routed, pool: '' } : routed, released);
  }

  /**
   * @param pool '' for none. @param may whether limits let this source send there now. @param avoid a source that was refused
   *   lately.
   * @returns source null: the message waits, because no source of the pool may send.
   */
  choose(pool: string, queueId: string, may: May, avoid = ''): { source: string | null; pool: string } {
    if (pool === '') return { source: DEFAULT_SOURCE, pool };
    const usable: May = (source) => this.#usable.has(source) && !this.#missing.has(source) && may(source);
    const avoided = this.#pools.get(pool)?.retry_other_source === true ? avoid : '';
    return this.#pools.choose(pool, queueId, usable, avoided) ?? { source: null, pool };
  }
}

function sourceOf(source: Config['egress']['sources'][number], config: EgressConfig): EgressSource {
  const { name, address = '', ehlo_name, port, max_connections } = source;
  const base = defaultSource(config);
  const proxy = source.proxy === undefined ? null : parseProxy(source.proxy);
  return new EgressSource({
    name,
    address,
    family: isIP(address) as 0 | 4 | 6,
    ehloName: ehlo_name ?? base.ehloName,
    mxPort: port === 0 ? base.mxPort : port,
    // The config has been checked.
    proxy: proxy === null || 'wrong' in proxy ? null : proxy,
    maxConnections: max_connections === 0 ? Number.POSITIVE_INFINITY : max_connections,
  });
}

function defaultSource({ hostname, delivery }: EgressConfig): EgressSource {
  return new EgressSource({
    name: DEFAULT_SOURCE,
    address: delivery.source_address ?? '',
    // As it always was: hosts of the other family fail, and the next one is tried.
    family: 0,
    ehloName: delivery.ehlo_name ?? hostname,
    mxPort: delivery.mx_port,
    proxy: null,
    maxConnections: Number.POSITIVE_INFINITY,
  });
}
