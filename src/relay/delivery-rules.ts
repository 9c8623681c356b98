/** The rules on what peers refuse, of one relay process: counts, acts, tells; what is held stays so over a restart. Part of the composition root. */
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { PoolMove } from '../egress/pool-moves.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { EventLog } from '../report/events.ts';
import type { Hook } from '../report/rule-hooks.ts';
import { KeptLines } from '../shaping/kept-lines.ts';
import type { Gate, GateKind } from '../shaping/message-gates.ts';
import { factsOf } from '../shaping/rules/facts.ts';
import { HOLDS_FILE, type Hold, Holds, readHolds } from '../shaping/rules/holds.ts';
import { type Firing, RuleEngine } from '../shaping/rules/rule-engine.ts';
import type { LimitAccess } from './limit-access.ts';

export interface RelayRulesSetup {
  config: Config;
  log: Log;
  events: Pick<EventLog, 'limitChanged'>;
  limits: LimitAccess;
  /** Sets what leaves by other pools, in place of what did. */
  moves(moves: readonly PoolMove[]): void;
  /** Tells a web address of the operator, without waiting. */
  webhook(hook: Hook): void;
}

const GATES: Record<Hold['target'], GateKind> = {
  source: 'source',
  provider: 'provider',
  from_domain: 'return_path_domain',
  tenant: 'tenant',
  campaign: 'campaign',
};
const MAX_REPLY = 300;

export class RelayRules {
  readonly #setup: RelayRulesSetup;
  readonly #file: KeptLines;
  readonly #holds = new Holds();
  #engine: RuleEngine;
  #names: ReadonlySet<string>;
  #hasMoved = false;

  constructor(setup: RelayRulesSetup) {
    this.#setup = setup;
    const path = join(setup.config.data_dir, HOLDS_FILE);
    const failed = (error: unknown): void => setup.log.warn('limits.not_kept', { path, error });
    this.#file = new KeptLines({
      path,
      lines: () => this.#holds.all(),
      now: steadyMs,
      setTimer: (ms, fire) => void setTimeout(fire, ms).unref(),
      failed,
    });
    this.#engine = new RuleEngine(setup.config.rules);
    this.#names = new Set(setup.config.rules.map(({ name }) => name));
    try {
      for (const hold of readHolds(path)) this.#holds.add(hold);
    } catch (error) {
      failed(error);
    }
  }

  /** What was held before the start holds on. */
  start(): void {
    this.tick();
    this.#postGates();
  }

  take(results: readonly AttemptResult[]): void {
    if (!this.#engine.active) return;
    const nowMs = steadyMs();
    for (const result of results) {
      const { site } = result;
      if (site === undefined) continue;
      for (const fact of factsOf(result, site, this.#engine.countsDeliveries, nowMs))
        for (const firing of this.#engine.take(fact)) this.#act(firing);
    }
  }

  /** Mail begins to go to a site. */
  begins(source: string, site: string): void {
    if (this.#holds.size > 0) this.#setSource(source, site);
  }

  tick(): void {
    if (this.#holds.size === 0) return;
    const over = this.#holds.over(timeOfDayMs(steadyMs()), (name) => this.#names.has(name));
    if (over.length === 0) return;
    for (const hold of over) this.#apply(hold);
    this.#postGates();
    this.#file.changed();
  }

  reconfigure({ rules }: Config): void {
    this.#engine = new RuleEngine(rules);
    this.#names = new Set(rules.map(({ name }) => name));
    this.tick();
  }

  /** The rules that hold a source at a site. */
  says(source: string, site: string): string {
    const names = [...this.#holds.all()]
      .filter((hold) => hold.site === site)
      .filter(({ target, value }) => target === 'provider' || (target === 'source' && value === source))
      .map(({ rule }) => `rule ${rule}`);
    return names.length === 0 ? 'rules' : [...new Set(names)].join(', ');
  }

  async close(): Promise<void> {
    if (this.#file.written) await this.#file.close();
  }

  #act(firing: Firing): void {
    const { rule, value, site, untilMs, matched, of, reply } = firing;
    const { events, log } = this.#setup;
    const { name, action, target, messages_per_s, pool } = rule;
    const text = reply.slice(0, MAX_REPLY);
    const ends_at = new Date(timeOfDayMs(untilMs)).toISOString();
    const told = { scope: target, value, site, rule: name, action, ends_at, reply: text };
    log.warn('rule.acted', told);
    events.limitChanged({
      by: 'rule',
      cause: 'threshold',
      ...told,
      ...(messages_per_s === undefined ? {} : { messages_per_s }),
      ...(pool === undefined ? {} : { pool }),
      matched,
      of,
    });
    this.#tellWeb(firing, told);
    if (action === 'alert' || action === 'webhook') return;
    const hold: Hold = {
      rule: name,
      target,
      value,
      site,
      messagesPerS: messages_per_s ?? 0,
      ...(pool === undefined ? {} : { pool }),
      ...(action === 'bounce' ? { bounces: `rule ${name}, after: ${text}` } : {}),
      untilMs: timeOfDayMs(untilMs),
    };
    this.#holds.add(hold);
    this.#apply(hold);
    this.#postGates();
    this.#file.changed();
  }

  #tellWeb({ rule: { url, allow_private: allowPrivate }, matched, of }: Firing, told: object): void {
    if (url === undefined) return;
    const time = new Date(timeOfDayMs(steadyMs())).toISOString();
    const { node_id: node } = this.#setup.config;
    const body = JSON.stringify({ type: 'rule_acted', time, node, ...told, matched, of });
    this.#setup.webhook({ url, allowPrivate, body });
  }

  /** Sets anew what the hold is about. */
  #apply({ target, value, site }: Hold): void {
    if (target === 'source') this.#setSource(value, site);
    else if (target === 'provider')
      for (const key of this.#setup.limits.keys()) if (key.site === site) this.#setSource(key.source, site);
  }

  #setSource(source: string, site: string): void {
    const { messagesPerS, closedUntilMs } = this.#holds.ofSource(source, site);
    const steadyUntilMs = closedUntilMs === 0 ? 0 : closedUntilMs - timeOfDayMs(0);
    this.#setup.limits.set(source, site, 'operator', {
      messagesPerS,
      connections: Number.POSITIVE_INFINITY,
      closedUntilMs: steadyUntilMs,
    });
  }

  #postGates(): void {
    const gates: Gate[] = [];
    const moves: PoolMove[] = [];
    for (const { rule, target, value, site, messagesPerS, pool, bounces, untilMs } of this.#holds.all()) {
      if (pool !== undefined) {
        moves.push({ target, value, site, pool });
        continue;
      }
      const kind = GATES[target];
      const by = `rule ${rule}`;
      if (bounces !== undefined)
        gates.push({
          kind,
          value: target === 'provider' ? '' : value,
          site,
          messagesPerS: 0,
          closedUntilMs: 0,
          by,
          bounces,
        });
      // What holds a source, or all that goes there, is in the limits of sources.
      if (bounces !== undefined || kind === 'source' || kind === 'provider') continue;
      const closedUntilMs = messagesPerS > 0 ? 0 : untilMs - timeOfDayMs(0);
      gates.push({ kind, value, site, messagesPerS, closedUntilMs, by });
    }
    this.#setup.limits.gates('operator', gates);
    if (moves.length > 0 || this.#hasMoved) this.#setup.moves(moves);
    this.#hasMoved = moves.length > 0;
  }
}
