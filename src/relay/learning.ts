/**
 * What limits mail besides the shaping data, in one relay process: adaptive control, rules, warm-ups. Told of results and of sites that mail
 * begins to go to; looks each second. Part of the composition root.
 */
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { PoolMove } from '../egress/pool-moves.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { EventLog } from '../report/events.ts';
import type { Said } from '../shaping/explained.ts';
import type { LimitKey, LimitSign } from '../shaping/limit-key.ts';
import type { Gate } from '../shaping/message-gates.ts';
import { RelayAdaptive } from './adaptive.ts';
import { RelayRules } from './delivery-rules.ts';
import { RelayLearnedLimits } from './learned-limits.ts';
import type { ProcessPlace } from './place.ts';
import type { RelayShaping } from './shaping.ts';
import { SiteLimits } from './site-limits.ts';
import { RelayWarmUp } from './warm-up.ts';

const TICK_MS = 1000;

export interface LearningSetup {
  config: Config;
  place: ProcessPlace;
  log: Log;
  events: Pick<EventLog, 'limitChanged'>;
  shaping: Pick<RelayShaping, 'keys'>;
  /** Sets the gates of every delivery thread. */
  postGates(gates: readonly Gate[]): void;
  /** Sets what leaves by other pools, in every delivery thread. */
  postMoves(moves: readonly PoolMove[]): void;
  /** Delivery threads: each has its part of a gate's rate. */
  threads: number;
}

export class Learning {
  readonly #adaptive: RelayAdaptive;
  readonly #learned: RelayLearnedLimits;
  readonly #rules: RelayRules;
  readonly #warmUp: RelayWarmUp;
  readonly #limits: SiteLimits;
  #timer: NodeJS.Timeout | null = null;

  constructor({ config, place, log, events, shaping, postGates, postMoves, threads }: LearningSetup) {
    const limits = new SiteLimits(shaping.keys, threads, postGates);
    this.#limits = limits;
    const setup = { config, log, events, limits };
    this.#adaptive = new RelayAdaptive(setup);
    this.#learned = new RelayLearnedLimits({ config, log, events, keys: shaping.keys });
    this.#rules = new RelayRules({ ...setup, moves: postMoves });
    this.#warmUp = new RelayWarmUp({ ...setup, place, processes: place.processes });
  }

  /** When delivery threads are there. */
  start(): void {
    this.#rules.start();
    this.#adaptive.start();
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref();
  }

  take(results: readonly AttemptResult[]): void {
    this.#adaptive.take(results);
    this.#rules.take(results);
    this.#warmUp.take(results);
  }

  /** A connection ended in a way that says what the peer allows. */
  saw(sign: LimitSign): void {
    this.#learned.saw(sign);
  }

  /** Mail begins to go to a site from a source, before the first of it goes. */
  begins({ source, site, provider }: LimitKey): void {
    if (source === null) return;
    this.#adaptive.begins(source, site);
    this.#rules.begins(source, site);
    this.#warmUp.begins(source, site, provider);
  }

  /** Who set what `by` set for a source at a site. */
  says(by: string, source: string, site: string, name: string): Said {
    if (by === 'learned') return { ...this.#learned.says(source, site, name), counts: null };
    if (by === 'adaptive') return { ...this.#adaptive.says('source', source, site), counts: null };
    if (by === 'operator') return { setBy: this.#rules.says(source, site), sinceMs: null, counts: null };
    if (by !== 'warmup') return { setBy: by, sinceMs: null, counts: null };
    const { setBy, limit, used } = this.#warmUp.says(source, site);
    return { setBy, sinceMs: null, counts: limit === null || used === null ? null : { limit, used } };
  }

  /** What keeps mail of a tenant, campaign or sender's domain from a site. */
  gatesAt(site: string): { gate: Gate; setBy: string; sinceMs: number | null }[] {
    return this.#limits.gatesAt(site).map((gate) => {
      const { by, kind, value } = gate;
      // Campaigns are no scope of replies: only rules hold them.
      if (by !== 'adaptive' || kind === 'campaign') return { gate, setBy: by, sinceMs: null };
      return { gate, ...this.#adaptive.says(kind, value, site) };
    });
  }

  reconfigure(config: Config): void {
    this.#adaptive.reconfigure(config);
    this.#learned.reconfigure(config);
    this.#rules.reconfigure(config);
    this.#warmUp.reconfigure(config);
  }

  #tick(): void {
    this.#adaptive.tick();
    this.#learned.tick();
    this.#rules.tick();
    this.#warmUp.tick();
  }

  /** Writes down what is to survive. */
  async stop(): Promise<void> {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    await Promise.all([
      this.#adaptive.close(),
      this.#learned.close(),
      this.#rules.close(),
      this.#warmUp.close(),
    ]);
  }
}
