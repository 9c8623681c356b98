/**
 * What limits mail besides the shaping data, in one relay process: adaptive control, rules, warm-ups. Told of results and of sites that mail
 * begins to go to; looks each second. Part of the composition root.
 */
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { PoolMove } from '../egress/pool-moves.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { EventLog } from '../report/events.ts';
import type { RuleHooks } from '../report/rule-hooks.ts';
import type { SharedNews } from '../scheduler/shared-news.ts';
import type { Said } from '../shaping/explained.ts';
import type { LimitKey, LimitSign } from '../shaping/limit-key.ts';
import type { Gate } from '../shaping/message-gates.ts';
import { RelayAdaptive } from './adaptive.ts';
import { type Complaint, Complaints } from './complaints.ts';
import { RelayRules } from './delivery-rules.ts';
import { RelayLearnedLimits } from './learned-limits.ts';
import type { ProcessPlace } from './place.ts';
import { openRuleHooks } from './rule-hooks.ts';
import type { RelayShaping } from './shaping.ts';
import { SiteLimits } from './site-limits.ts';
import { RelayWarmUp } from './warm-up.ts';

const TICK_MS = 1000;

export interface LearningSetup {
  config: Config;
  place: ProcessPlace;
  log: Log;
  events: Pick<EventLog, 'limitChanged'>;
  shaping: Pick<RelayShaping, 'keys' | 'sharers'>;
  /** Sets the gates of every delivery thread. */
  postGates(gates: readonly Gate[]): void;
  /** Sets what leaves by other pools, in every delivery thread. */
  postMoves(moves: readonly PoolMove[]): void;
  /** What all nodes share; null: nothing. */
  nodes: SharedNews | null;
  /** The site that a domain's mail goes to, as far as it is known. */
  siteOf(domain: string): string | null;
  /** Delivery threads: each has its part of a gate's rate. */
  threads: number;
}

export class Learning {
  readonly #adaptive: RelayAdaptive;
  readonly #learned: RelayLearnedLimits;
  readonly #rules: RelayRules;
  readonly #warmUp: RelayWarmUp;
  readonly #limits: SiteLimits;
  readonly #hooks: RuleHooks;
  readonly #complaints: Complaints;
  #config: Config;
  #timer: NodeJS.Timeout | null = null;

  constructor(all: LearningSetup) {
    const { config, place, log, events, shaping, nodes, postGates, postMoves, threads } = all;
    const limits = new SiteLimits(shaping.keys, threads, shaping.sharers, postGates);
    this.#limits = limits;
    const setup = { config, log, events, limits };
    this.#adaptive = new RelayAdaptive({
      ...setup,
      place,
      nodes,
      other: (line) => this.#complaints.heard(line),
    });
    this.#learned = new RelayLearnedLimits({ config, log, events, keys: shaping.keys });
    this.#config = config;
    this.#hooks = openRuleHooks(() => this.#config, log);
    this.#rules = new RelayRules({ ...setup, moves: postMoves, webhook: (hook) => this.#hooks.tell(hook) });
    this.#warmUp = new RelayWarmUp({ ...setup, place, processes: place.processes });
    this.#complaints = new Complaints({
      current: () => this.#config,
      siteOf: all.siteOf,
      sentBy: (queueId) => this.#warmUp.sentBy(queueId),
      counted: (source, site) => this.#warmUp.complained(source, site),
      tell: (line) => this.#adaptive.say(line),
    });
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

  /** Somebody complains of a message. */
  complained(complaint: Complaint): void {
    this.#complaints.take(complaint);
  }

  /** What other processes learned. */
  heard(lines: readonly string[]): void {
    this.#adaptive.heard(lines);
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
    if (by === 'netblock') return { ...this.#adaptive.saysOfBlock(source, site), counts: null };
    if (by === 'learned') return { ...this.#learned.says(source, site, name), counts: null };
    if (by === 'adaptive') return { ...this.#adaptive.says('source', source, site), counts: null };
    if (by === 'operator') return { setBy: this.#rules.says(source, site), sinceMs: null, counts: null };
    if (by !== 'warmup') return { setBy: by, sinceMs: null, counts: null };
    const { setBy, limit, used } = this.#warmUp.says(source, site);
    return { setBy, sinceMs: null, counts: limit === null || used === null ? null : { limit, used } };
  }

  /** What keeps mail of a block of addresses, signature, tenant, campaign or sender's domain from a site. */
  gatesAt(site: string): { gate: Gate; setBy: string; sinceMs: number | null }[] {
    return this.#limits.gatesAt(site).map((gate) => {
      const { by, kind, value } = gate;
      if (by !== 'adaptive' || kind === 'provider') return { gate, setBy: by, sinceMs: null };
      return { gate, ...this.#adaptive.says(kind, value, site) };
    });
  }

  reconfigure(config: Config): void {
    this.#config = config;
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
    this.#hooks.close();
    await Promise.all([
      this.#adaptive.close(),
      this.#learned.close(),
      this.#rules.close(),
      this.#warmUp.close(),
    ]);
  }
}
