/**
 * How attempts of a lane end without a connection: with an outcome, back in the queue until a limit lets them through, or
 * handed back as they came.
 */
import type { EgressSource } from '../egress/egress.ts';
import type { Outcome } from '../mail/outcome.ts';
import type { Attempt } from './attempt.ts';
import type { DestinationPorts } from './destination-ports.ts';
import type { LaneShare } from './lane-share.ts';
import { bounced, deferred } from './outcome.ts';
import type { Suspension } from './suspension.ts';

/** The lane: a reload replaces its source. */
export interface EndingLane {
  readonly share: LaneShare;
  source: EgressSource;
}

export class LaneEndings {
  readonly #lane: EndingLane;
  readonly #suspension: Pick<Suspension, 'untilMs'>;
  readonly #ports: Pick<DestinationPorts<unknown>, 'gates' | 'departures' | 'finished' | 'handBack' | 'now'>;

  constructor(
    lane: EndingLane,
    suspension: Pick<Suspension, 'untilMs'>,
    ports: Pick<DestinationPorts<unknown>, 'gates' | 'departures' | 'finished' | 'handBack' | 'now'>,
  ) {
    this.#lane = lane;
    this.#suspension = suspension;
    this.#ports = ports;
  }

  end(attempt: Attempt, outcome: Outcome): void {
    this.#lane.share.mark(attempt);
    attempt.decideRest(outcome);
    this.#ports.finished(attempt);
  }

  /** A host, or DNS, gave the outcome: it counts as an attempt. */
  decide(attempt: Attempt, outcome: Outcome): void {
    attempt.counted = true;
    this.end(attempt, outcome);
  }

  deferSuspended(attempt: Attempt): void {
    attempt.notBeforeMs = this.#suspension.untilMs;
    this.end(attempt, deferred('destination_suspended', null, 'its connections failed one after another'));
  }

  /** A limit of the site lets nothing through for some time. */
  deferLimited(attempt: Attempt): void {
    const { closedUntilMs, closedBy } = this.#lane.share;
    this.#deferUntil(attempt, closedUntilMs, closedBy);
  }

  /** Whether a limit of its addresses, signature, sender's domain, tenant or campaign keeps it from the site for now: then it is ended. */
  keepsOut(attempt: Attempt): boolean {
    const { share, source } = this.#lane;
    const { gates } = this.#ports;
    const site = share.limits?.site.key;
    if (site === undefined) return false;
    const untilMs = gates.take(site, attempt, source, this.#ports.now());
    const { refusedBy } = gates;
    if (untilMs > 0) this.#deferUntil(attempt, untilMs, refusedBy);
    else if (untilMs < 0) this.end(attempt, bounced('failed_by_rule', '5.7.1', refusedBy));
    return untilMs !== 0;
  }

  #deferUntil(attempt: Attempt, untilMs: number, by: string): void {
    if (this.#ports.departures.divert(attempt)) return;
    attempt.notBeforeMs = untilMs;
    this.end(attempt, deferred('limit_reached', null, by));
  }

  handBack(attempt: Attempt): void {
    if (attempt.untouched) this.#ports.handBack(attempt);
    else this.end(attempt, deferred('shutdown', null, 'the relay shut down'));
  }
}
