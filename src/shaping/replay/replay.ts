/**
 * What rules and the adaptive control would have done, had they been there: past facts are told to both. What they would have
 * held back was sent in fact, and so counts on: the report says how much it was.
 */
import type { DeliveryRule } from '../../config/delivery-rules-schema.ts';
import { AdaptiveController, type LimitChange, type RateClass } from '../adaptive/controller.ts';
import { keyText, type LimitKey } from '../adaptive/keys.ts';
import type { AdaptiveSettings } from '../adaptive/settings.ts';
import type { Fact } from '../rules/matcher.ts';
import { type Firing, RuleEngine, targetValue } from '../rules/rule-engine.ts';
import { Curve } from './curve.ts';

/** Sources at sites that have a curve; further ones are counted together. */
const MAX_CURVES = 1000;
/** Actions and changes that are listed one by one; the others are counted. */
const MAX_LISTED = 1000;
const TICK_MS = 1000;
const RATE_CLASSES: readonly string[] = ['rate_limit', 'connection_limit', 'reputation_block', 'dnsbl_block'];

export interface TargetReport {
  value: string;
  site: string;
  firings: number;
  firstMs: number;
  lastMs: number;
  /** Messages that were sent to it while the rule would have held, or slowed, them. */
  messages: number;
  reply: string;
}

export interface RuleReport {
  rule: DeliveryRule;
  firings: number;
  targets: TargetReport[];
}

export class Replay {
  readonly #engine: RuleEngine;
  readonly #controller: AdaptiveController;
  readonly #rules: Map<DeliveryRule, Map<string, TargetReport & { untilMs: number }>>;
  readonly curves = new Map<string, { key: LimitKey; curve: Curve }>();
  /** In order, the first ones. */
  readonly firings: Firing[] = [];
  readonly changes: (LimitChange & { atMs: number })[] = [];
  facts = 0;
  refusals = 0;
  totalFirings = 0;
  totalChanges = 0;
  /** Messages of sources at sites that have no curve. */
  withoutCurve = 0;
  #nowMs = Number.NEGATIVE_INFINITY;
  #tickMs = Number.NEGATIVE_INFINITY;

  constructor(rules: readonly DeliveryRule[], settings: AdaptiveSettings) {
    this.#engine = new RuleEngine(rules);
    this.#rules = new Map(rules.map((rule) => [rule, new Map()]));
    this.#controller = new AdaptiveController(settings, {
      changed: (change) => {
        this.totalChanges++;
        if (this.changes.length < MAX_LISTED) this.changes.push({ ...change, atMs: this.#nowMs });
      },
      limit: () => {},
    });
  }

  /** @param sentMs when the message was sent that it answers. */
  take(fact: Fact, sentMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, fact.atMs);
    this.#count(fact);
    for (const firing of this.#engine.take(fact)) this.#fired(firing);
    if (fact.code === 0) return;
    this.facts++;
    const key: LimitKey = { scope: 'source', value: fact.source, site: fact.site };
    if (this.#nowMs - this.#tickMs >= TICK_MS) {
      this.#tickMs = this.#nowMs;
      this.#controller.tick(this.#nowMs);
    }
    const isRefused = !fact.isDelivered && RATE_CLASSES.includes(fact.class);
    if (isRefused) {
      this.refusals++;
      const { class: kind, reply } = fact;
      // How many connections there were is not in events: their limit is halved from two on.
      this.#controller.refused(
        key,
        { class: kind as RateClass, reply, sentMs, openConnections: 2 },
        this.#nowMs,
      );
    } else {
      const accepted = fact.isDelivered ? fact.messages : 0;
      this.#controller.answered(key, fact.messages, accepted, sentMs, Number.POSITIVE_INFINITY, this.#nowMs);
    }
    this.#draw(key, fact, isRefused);
  }

  report(): RuleReport[] {
    return [...this.#rules].map(([rule, targets]) => {
      const all = [...targets.values()].sort((a, b) => b.firings - a.firings || b.messages - a.messages);
      return { rule, firings: all.reduce((sum, { firings }) => sum + firings, 0), targets: all };
    });
  }

  #draw(key: LimitKey, fact: Fact, isRefused: boolean): void {
    const text = keyText(key);
    let drawn = this.curves.get(text);
    if (drawn === undefined) {
      if (this.curves.size >= MAX_CURVES) {
        this.withoutCurve += fact.messages;
        return;
      }
      drawn = { key, curve: new Curve() };
      this.curves.set(text, drawn);
    }
    const { messagesPerS } = this.#controller.limitOf(key);
    const accepted = fact.isDelivered ? fact.messages : 0;
    drawn.curve.add(accepted, isRefused ? fact.messages : 0, messagesPerS, this.#nowMs);
  }

  /** Mail of targets on which a rule acts at this time. */
  #count(fact: Fact): void {
    for (const [rule, targets] of this.#rules) {
      if (targets.size === 0) continue;
      const target = targets.get(`${targetValue(rule.target, fact)}\t${fact.site}`);
      if (target !== undefined && fact.atMs < target.untilMs) target.messages += fact.messages;
    }
  }

  #fired(firing: Firing): void {
    const { rule, value, site, atMs, untilMs, reply } = firing;
    this.totalFirings++;
    if (this.firings.length < MAX_LISTED) this.firings.push(firing);
    const targets = this.#rules.get(rule);
    const key = `${value}\t${site}`;
    const known = targets?.get(key);
    if (known === undefined)
      targets?.set(key, {
        value,
        site,
        firings: 1,
        firstMs: atMs,
        lastMs: atMs,
        untilMs,
        messages: 0,
        reply,
      });
    else Object.assign(known, { firings: known.firings + 1, lastMs: atMs, untilMs, reply });
  }
}
