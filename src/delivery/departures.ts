/**
 * Which way an attempt goes, and which source it leaves from, in a delivery thread: what its pool and the rules say
 * (judgement.ts), of those that may send to its provider now. Where a rule asks for the provider, or a limit that may send it to another pool for the site, an attempt waits for the first route of its destination. Mail to hosts
 * that the operator chose leaves from the default source.
 */
import { mostRecent } from '../base/most-recent.ts';
import type { Egress, EgressSource } from '../egress/egress.ts';
import type { PoolMove } from '../egress/pool-moves.ts';
import type { Job } from '../mail/job.ts';
import { isOperatorKey } from '../mail/operator-keys.ts';
import type { Site } from '../shaping/sites.ts';
import type { Attempt } from './attempt.ts';
import { judgementOf, routedOf } from './judgement.ts';
import type { Route } from './route.ts';

export interface DeparturesPorts {
  /** Whether the destination's own MX hosts are asked. */
  goesByMx(destination: string): boolean;
  route(destination: string): Promise<Route>;
  /** Whether the lane of this destination and source lets nothing through now. */
  isClosed(destination: string, source: EgressSource): boolean;
  /** Puts the attempt into the lane of this key. */
  depart(attempt: Attempt, source: EgressSource, key: string): void;
  /** Gives the job to the thread that has the connections of this key; false: that is this one. */
  passOn(attempt: Attempt, key: string): boolean;
  /** Everything of the attempt is decided. */
  finished(attempt: Attempt): void;
  /** No source may send there now. */
  stranded(attempt: Attempt, pool: string): void;
  outside(work: () => void): void;
  /** A program error kept the attempt from its lane. */
  failed(attempt: Attempt, error: unknown): void;
}

/** Destinations whose site is remembered. */
const MAX_SITES = 50_000;
/** Messages that were refused because of their source. */
const MAX_REFUSED = 10_000;

export class Departures {
  readonly #ports: DeparturesPorts;
  #egress: Egress;
  readonly #sites = mostRecent<Site>(MAX_SITES);
  /** By queue id and destination: the source that was refused. */
  readonly #refused = mostRecent<string>(MAX_REFUSED);
  /** Attempts that wait for the first route of their destination. */
  readonly #unrouted = new Map<string, Attempt[]>();

  constructor(egress: Egress, ports: DeparturesPorts) {
    this.#egress = egress;
    this.#ports = ports;
  }

  reconfigure(egress: Egress): void {
    egress.setMissing(this.#egress.missing);
    egress.moves = this.#egress.moves;
    this.#egress = egress;
  }

  setMissing(sources: readonly string[]): void {
    this.#egress.setMissing(sources);
  }

  /** Sets what rules have moved to other pools, in place of what was. */
  setMoves(moves: readonly PoolMove[]): void {
    this.#egress.setMoves(moves);
  }

  /** The site of a destination, as its last route says. */
  belongs(destination: string, site: Site): void {
    if (this.#egress.active || this.#egress.judges) this.#sites.set(destination, site);
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
    const byMx = this.#ports.goesByMx(destination);
    if (!this.#isJudged(destination, byMx)) this.#ports.depart(attempt, egress.source(''), destination);
    else if (byMx && this.#asksForSite && !this.#sites.has(destination)) this.#waitForRoute(attempt);
    else this.#choose(attempt, byMx);
  }

  /** What an operator rerouted goes where he said. */
  #isJudged(destination: string, byMx: boolean): boolean {
    const { active, judges } = this.#egress;
    return (judges && !isOperatorKey(destination)) || (active && byMx);
  }

  /** Gives a job that goes another way to the thread for it, before anything is done with it here. */
  passesOn(attempt: Attempt): boolean {
    const { destination } = attempt.job;
    if (!this.#egress.judges || isOperatorKey(destination)) return false;
    const byMx = this.#ports.goesByMx(destination);
    if (byMx && this.#asksForSite && !this.#sites.has(destination)) return false;
    const { way } = judgementOf(this.#egress, attempt, byMx ? this.#siteOf(destination).provider : '');
    return way !== '' && this.#ports.passOn(attempt, way);
  }

  get #asksForSite(): boolean {
    const { asksForProvider, overflow, moves } = this.#egress;
    return asksForProvider || overflow.active || moves.active;
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
    this.belongs(destination, (route.kind === 'hosts' ? route.site : undefined) ?? NO_SITE);
    const waiting = this.#unrouted.get(destination) ?? [];
    this.#unrouted.delete(destination);
    if (waiting.length === 0) return;
    this.#ports.outside(() => {
      for (const attempt of waiting)
        try {
          this.#choose(attempt, true);
        } catch (error) {
          this.#ports.failed(attempt, error);
        }
    });
  }

  #choose(attempt: Attempt, byMx: boolean): void {
    const { destination } = attempt.job;
    const site = byMx ? this.#siteOf(destination) : NO_SITE;
    const judgement = judgementOf(this.#egress, attempt, site.provider);
    const { way, ended } = judgement;
    if (way !== '' && this.#ports.passOn(attempt, way)) return;
    for (const { positions, outcome } of ended) attempt.withdraw(positions, outcome);
    attempt.class = judgement.class;
    if (attempt.done) this.#ports.finished(attempt);
    else if (way === '' && byMx) this.#leave(attempt, site, judgement.pool);
    else this.#ports.depart(attempt, this.#egress.source(''), way === '' ? destination : way);
  }

  /** @param named the pool that message or rules name; '' for none. */
  #leave(attempt: Attempt, site: Site, named: string): void {
    const { job } = attempt;
    const { destination, queueId } = job;
    const egress = this.#egress;
    const may = this.#may(destination);
    const avoid = this.#refused.get(`${queueId} ${destination}`) ?? '';
    if (egress.moves.active || egress.overflow.active) {
      const own = egress.choose(named, queueId, ALWAYS).source ?? '';
      const moved = egress.moves.poolOf(site.key, routedOf(job, destination, site.provider), own);
      const pool = moved !== '' || may(own) ? moved : egress.overflow.poolOf(own, site.key, site.provider);
      const other = pool === '' ? null : egress.choose(pool, queueId, may, avoid);
      if (other !== null && other.source !== null) {
        this.#ports.depart(attempt, egress.source(other.source), destination);
        return;
      }
      if (moved !== '') {
        this.#ports.stranded(attempt, moved);
        return;
      }
    }
    const { source, pool } = egress.choose(named, queueId, may, avoid);
    if (source === null) this.#ports.stranded(attempt, pool);
    else this.#ports.depart(attempt, egress.source(source), destination);
  }

  /**
   * A limit keeps the attempt from leaving by its source: it goes to the overflow pool of that source's warm-up, once.
   * @returns false: it waits.
   */
  divert(attempt: Attempt): boolean {
    const { overflow } = this.#egress;
    if (!overflow.active || attempt.diverted || !attempt.untouched) return false;
    const { job, source } = attempt;
    const site = this.#siteOf(job.destination);
    const pool = overflow.poolOf(source, site.key, site.provider);
    if (pool === '') return false;
    const other = this.#egress.choose(pool, job.queueId, this.#may(job.destination)).source;
    if (other === null || other === source) return false;
    attempt.diverted = true;
    this.#ports.depart(attempt, this.#egress.source(other), job.destination);
    return true;
  }

  #siteOf(destination: string): Site {
    return this.#sites.get(destination) ?? NO_SITE;
  }

  #may(destination: string): (source: string) => boolean {
    return (name) => !this.#ports.isClosed(destination, this.#egress.source(name));
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

const NO_SITE: Site = { key: '', provider: '' };
const ALWAYS = (): boolean => true;
