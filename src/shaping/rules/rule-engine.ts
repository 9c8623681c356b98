/**
 * Counts what peers say by the operator's rules, and says when one acts. It does nothing itself, and has no timer: the time is that
 * of what it is told, so the past can be told to it too. Bounded: a rule counts for so many targets, the one heard of least
 * lately is forgotten.
 */
import { type MostRecent, mostRecent } from '../../base/most-recent.ts';
import type { DeliveryRule, RuleTarget } from '../../config/delivery-rules-schema.ts';
import { type Fact, type Matcher, matcherOf } from './matcher.ts';
import { SlidingWindow } from './window.ts';

/** Targets that one rule counts for. */
const MAX_TARGETS = 10_000;

/** A rule acts on a target. */
export interface Firing {
  rule: DeliveryRule;
  /** Value of what the rule names as its target; of a provider the site itself. */
  value: string;
  site: string;
  atMs: number;
  untilMs: number;
  matched: number;
  of: number;
  /** The last reply that counted. */
  reply: string;
}

interface Count {
  window: SlidingWindow;
  /** No action before. */
  quietUntilMs: number;
}

interface Counting {
  rule: DeliveryRule;
  matcher: Matcher;
  counts: MostRecent<Count>;
}

const VALUES: Record<RuleTarget, (fact: Fact) => string> = {
  source: ({ source }) => source,
  provider: ({ site }) => site,
  tenant: ({ tenant }) => tenant,
  campaign: ({ campaign }) => campaign,
  from_domain: ({ fromDomain }) => fromDomain,
};

/** '' where the mail has none. */
export const targetValue = (target: RuleTarget, fact: Fact): string => VALUES[target](fact);

export class RuleEngine {
  readonly #rules: Counting[];
  /** Whether there is a rule that needs to know of what was delivered. */
  readonly countsDeliveries: boolean;

  /** @param rules that have been checked (matcherOf, ruleProblems). */
  constructor(rules: readonly DeliveryRule[]) {
    this.#rules = rules.map((rule) => {
      const matcher = matcherOf(rule);
      if (Array.isArray(matcher)) throw new Error(`rule ${rule.name}: ${matcher.join(': ')}`);
      return { rule, matcher, counts: mostRecent(MAX_TARGETS) };
    });
    this.countsDeliveries = rules.some(
      ({ threshold: { ratio, of } }) => ratio !== undefined && of === 'attempts',
    );
  }

  get active(): boolean {
    return this.#rules.length > 0;
  }

  /** @returns what rules act now; none, for nearly all facts. */
  take(fact: Fact): Firing[] {
    const firings: Firing[] = [];
    if (fact.code === 0) return firings;
    for (const counting of this.#rules) {
      const { rule, matcher } = counting;
      const { ratio, of } = rule.threshold;
      if (fact.isDelivered && (ratio === undefined || of === 'refusals')) continue;
      if (!matcher.concerns(fact)) continue;
      const value = targetValue(rule.target, fact);
      // Mail of nobody's campaign is no campaign. The default source has no name, but is one.
      if (value === '' && rule.target !== 'source') continue;
      const isMatch = matcher.matches(fact);
      if (!isMatch && ratio === undefined) continue;
      const firing = this.#count(counting, value, fact, isMatch);
      if (firing !== null) firings.push(firing);
    }
    return firings;
  }

  #count({ rule, counts }: Counting, value: string, fact: Fact, isMatch: boolean): Firing | null {
    const { threshold, for_ms, cooldown_ms } = rule;
    const { atMs, site, messages, reply } = fact;
    const key = `${value}\t${site}`;
    let count = counts.get(key);
    if (count === undefined) {
      count = { window: new SlidingWindow(threshold.window_s), quietUntilMs: Number.NEGATIVE_INFINITY };
      counts.set(key, count);
    }
    const { window } = count;
    window.add(isMatch ? messages : 0, messages, atMs);
    if (!isMatch || atMs < count.quietUntilMs || !isReached(threshold, window)) return null;
    const { matched, of } = window;
    window.clear();
    count.quietUntilMs = atMs + for_ms + cooldown_ms;
    return { rule, value, site, atMs, untilMs: atMs + for_ms, matched, of, reply };
  }
}

function isReached({ count, ratio, min_count }: DeliveryRule['threshold'], window: SlidingWindow): boolean {
  if (count !== undefined) return window.matched >= count;
  return window.of >= min_count && window.matched >= (ratio as number) * window.of;
}
