/**
 * The rules that one replica knows, those that are over among them. A rule only ever goes from holding to over, so replicas
 * that exchange what they know come to agree, whatever they hear first; a rule that was resumed never comes back.
 */
import type { SuspensionRule } from '../mail/suspension.ts';

/** Rules that are over are remembered for so long: a replica that was away for less learns of their end. */
const REMEMBER_MS = 30 * 86_400_000;
/** And so many of them at most. */
const MAX_REMEMBERED = 2000;

interface Known {
  rule: SuspensionRule;
  /** The end in steady time, as the clocks stood when it was learned; Infinity when it has none. */
  endsSteadyMs: number;
}

export interface Clocks {
  now(): number;
  steady(): number;
}

/** What a merge brought. */
export interface RuleChange {
  begun: SuspensionRule[];
  ended: SuspensionRule[];
}

export class RuleSet {
  readonly #known = new Map<string, Known>();
  readonly #clocks: Clocks;

  constructor(clocks: Clocks) {
    this.#clocks = clocks;
  }

  /** Takes what another replica knows. */
  merge(rules: readonly SuspensionRule[]): RuleChange {
    const change: RuleChange = { begun: [], ended: [] };
    for (const rule of rules) {
      const known = this.#known.get(rule.id);
      const held = known !== undefined && this.#holds(known);
      if (known === undefined) this.#known.set(rule.id, { rule, endsSteadyMs: this.#steadyEnd(rule) });
      else if (known.rule.endedAtMs === null && rule.endedAtMs !== null)
        known.rule = { ...known.rule, endedAtMs: rule.endedAtMs };
      const holds = this.#holds(this.#known.get(rule.id) as Known);
      if (holds && !held) change.begun.push(rule);
      else if (held && !holds) change.ended.push(rule);
    }
    this.#forget();
    return change;
  }

  /** The rules that hold mail now, the oldest first. */
  active(): SuspensionRule[] {
    return [...this.#known.values()]
      .filter((one) => this.#holds(one))
      .map(({ rule }) => rule)
      .sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  get(id: string): SuspensionRule | undefined {
    return this.#known.get(id)?.rule;
  }

  all(): SuspensionRule[] {
    return [...this.#known.values()].map(({ rule }) => rule);
  }

  /** In how many milliseconds the next rule ends by itself; Infinity when none does. */
  nextEndMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...this.active().map((rule) => this.leftMs(rule)));
  }

  /** How long the rule still holds; Infinity when it has no end. */
  leftMs({ id }: SuspensionRule): number {
    const known = this.#known.get(id);
    if (known === undefined || !this.#holds(known)) return 0;
    const { untilMs } = known.rule;
    if (untilMs === null) return Number.POSITIVE_INFINITY;
    return Math.max(untilMs - this.#clocks.now(), known.endsSteadyMs - this.#clocks.steady());
  }

  /** Its time must be over by both clocks: a clock that is set forward lets nothing go. */
  #holds({ rule, endsSteadyMs }: Known): boolean {
    if (rule.endedAtMs !== null) return false;
    if (rule.untilMs === null) return true;
    return rule.untilMs > this.#clocks.now() || endsSteadyMs > this.#clocks.steady();
  }

  #steadyEnd({ untilMs }: SuspensionRule): number {
    if (untilMs === null) return Number.POSITIVE_INFINITY;
    return this.#clocks.steady() + untilMs - this.#clocks.now();
  }

  #forget(): void {
    const over = [...this.#known.values()]
      .filter((one) => !this.#holds(one))
      .sort((a, b) => overAt(b) - overAt(a));
    const beforeMs = this.#clocks.now() - REMEMBER_MS;
    over.forEach((one, i) => {
      if (i >= MAX_REMEMBERED || overAt(one) < beforeMs) this.#known.delete(one.rule.id);
    });
  }
}

const overAt = ({ rule }: Known): number => rule.endedAtMs ?? rule.untilMs ?? 0;
