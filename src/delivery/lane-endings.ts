/**
 * How attempts of a lane end without a connection: with an outcome, back in the queue until a limit lets them through, or
 * handed back as they came.
 */
import type { Job } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import type { Attempt } from './attempt.ts';
import type { DestinationPorts } from './destination-ports.ts';
import type { LaneShare } from './lane-share.ts';
import { deferred } from './outcome.ts';
import type { Suspension } from './suspension.ts';

export interface LaneEndingsPorts {
  readonly share: LaneShare;
  readonly suspension: Pick<Suspension, 'untilMs'>;
  readonly ports: Pick<DestinationPorts<unknown>, 'gates' | 'departures' | 'finished' | 'handBack' | 'now'>;
}

export class LaneEndings {
  readonly #lane: LaneEndingsPorts;
  #gatedUntilMs = 0;

  constructor(lane: LaneEndingsPorts) {
    this.#lane = lane;
  }

  end(attempt: Attempt, outcome: Outcome): void {
    const { share, ports } = this.#lane;
    share.mark(attempt);
    attempt.decideRest(outcome);
    ports.finished(attempt);
  }

  /** A host, or DNS, gave the outcome: it counts as an attempt. */
  decide(attempt: Attempt, outcome: Outcome): void {
    attempt.counted = true;
    this.end(attempt, outcome);
  }

  deferSuspended(attempt: Attempt): void {
    attempt.notBeforeMs = this.#lane.suspension.untilMs;
    this.end(attempt, deferred('destination_suspended', null, 'its connections failed one after another'));
  }

  /** A limit of the site lets nothing through for some time. */
  deferLimited(attempt: Attempt): void {
    const { closedUntilMs, closedBy } = this.#lane.share;
    this.#deferUntil(attempt, closedUntilMs, closedBy);
  }

  /** Whether a limit of its tenant, campaign or sender's domain keeps it from the site for now: then it is back in the queue. */
  keepsOut(attempt: Attempt): boolean {
    if (!this.#isGated(attempt.job)) return false;
    this.#deferUntil(attempt, this.#gatedUntilMs, this.#lane.ports.gates.refusedBy);
    return true;
  }

  #isGated(job: Job): boolean {
    const { share, ports } = this.#lane;
    const site = share.limits?.site.key;
    if (site === undefined) return false;
    this.#gatedUntilMs = ports.gates.take(site, job, ports.now());
    return this.#gatedUntilMs > 0;
  }

  #deferUntil(attempt: Attempt, untilMs: number, by: string): void {
    if (this.#lane.ports.departures.divert(attempt)) return;
    attempt.notBeforeMs = untilMs;
    this.end(attempt, deferred('limit_reached', null, by));
  }

  handBack(attempt: Attempt): void {
    if (attempt.untouched) this.#lane.ports.handBack(attempt);
    else this.end(attempt, deferred('shutdown', null, 'the relay shut down'));
  }
}
