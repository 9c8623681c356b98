/**
 * Which source an attempt leaves from, in a delivery thread: what its pool and the rules say, of those that may send to its
 * provider now. Where a rule asks for the provider, an attempt waits for the first route of its destination. Mail to hosts
 * that the operator chose leaves from the default source.
 */
import { LRUCache } from 'lru-cache';
import type { Egress, EgressSource } from '../egress/egress.ts';
import type { Job } from '../mail/job.ts';
import type { Attempt } from './attempt.ts';
import type { Route } from './route.ts';

export interface DeparturesPorts {
  /** Whether the destination's own MX hosts are asked. */
  goesByMx(destination: string): boolean;
  route(destination: string): Promise<Route>;
  /** Whether the lane of this destination and source lets nothing through now. */
  isClosed(destination: string, source: EgressSource): boolean;
  /** Puts the attempt into its lane. */
  depart(attempt: Attempt, source: EgressSource): void;
  /** No source may send there now. */
  stranded(attempt: Attempt, pool: string): void;
  outside(work: () => void): void;
  /** A program error kept the attempt from its lane. */
  failed(attempt: Attempt, error: unknown): void;
}

/** Destinations whose provider is remembered. */
const MAX_PROVIDERS = 50_000;
/** Messages that were refused because of their source. */
const MAX_REFUSED = 10_000;

export class Departures {
  readonly #ports: DeparturesPorts;
  #egress: Egress;
  readonly #providers = new LRUCache<string, string>({ max: MAX_PROVIDERS });
  /** By queue id and destination: the source that was refused. */
  readonly #refused = new LRUCache<string, string>({ max: MAX_REFUSED });
  /** Attempts that wait for the first route of their destination. */
  readonly #unrouted = new Map<string, Attempt[]>();

  constructor(egress: Egress, ports: DeparturesPorts) {
    this.#egress = egress;
    this.#ports = ports;
  }

  reconfigure(egress: Egress): void {
    egress.setMissing(this.#egress.missing);
    this.#egress = egress;
  }

  setMissing(sources: readonly string[]): void {
    this.#egress.setMissing(sources);
  }

  /** The provider of a destination, as its last route says. */
  belongs(destination: string, provider: string): void {
    if (this.#egress.active) this.#providers.set(destination, provider);
  }

  /** Notes the source of an attempt that a peer refused because of that. */
  ended({ job, groups, source }: Attempt): void {
    const ofSource = groups.some(
      ({ outcome }) =>
        outcome.kind === 'deferred' &&
        (outcome.verdict?.scope === 'source' || outcome.verdict?.scope === 'netblock'),
    );
    if (ofSource) this.#refused.set(`${job.queueId} ${job.destination}`, source);
  }

  take(attempt: Attempt): void {
    const { destination } = attempt.job;
    const egress = this.#egress;
    if (!egress.active || !this.#ports.goesByMx(destination)) this.#ports.depart(attempt, egress.source(''));
    else if (!egress.asksForProvider || this.#providers.has(destination)) this.#choose(attempt);
    else this.#waitForRoute(attempt);
  }

  #waitForRoute(attempt: Attempt): void {
    const { destination } = attempt.job;
    const waiting = this.#unrouted.get(destination);
    if (waiting !== undefined) {
      waiting.push(attempt);
      return;
    }
    this.#unrouted.set(destination, [attempt]);
    // Routes never reject; what comes of one that names no hosts is for the lane to say.
    void this.#ports.route(destination).then((route) => this.#routed(destination, route));
  }

  #routed(destination: string, route: Route): void {
    this.belongs(destination, (route.kind === 'hosts' ? route.site?.provider : undefined) ?? '');
    const waiting = this.#unrouted.get(destination) ?? [];
    this.#unrouted.delete(destination);
    if (waiting.length === 0) return;
    this.#ports.outside(() => {
      for (const attempt of waiting)
        try {
          this.#choose(attempt);
        } catch (error) {
          this.#ports.failed(attempt, error);
        }
    });
  }

  #choose(attempt: Attempt): void {
    const { job } = attempt;
    const { destination, attributes } = job;
    const egress = this.#egress;
    const routed = {
      tenant: attributes?.tenant ?? '',
      campaign: attributes?.campaign ?? '',
      class: attributes?.class ?? '',
      pool: attributes?.pool ?? '',
      fromDomain: domainOf(job.reversePath),
      recipientDomain: destination,
      provider: this.#providers.get(destination) ?? '',
    };
    const may = (name: string): boolean => !this.#ports.isClosed(destination, egress.source(name));
    const avoid = this.#refused.get(`${job.queueId} ${destination}`) ?? '';
    const { source, pool } = egress.choose(routed, job.queueId, may, avoid);
    if (source === null) this.#ports.stranded(attempt, pool);
    else this.#ports.depart(attempt, egress.source(source));
  }

  /** Takes out attempts that still wait for a route. */
  takeBack(isMeant: (job: Job) => boolean): Attempt[] {
    const taken: Attempt[] = [];
    for (const [destination, waiting] of this.#unrouted) {
      taken.push(...waiting.filter(({ job }) => isMeant(job)));
      this.#unrouted.set(
        destination,
        waiting.filter(({ job }) => !isMeant(job)),
      );
    }
    return taken;
  }
}

const domainOf = (address: string): string => address.slice(address.lastIndexOf('@') + 1).toLowerCase();
