/**
 * Which way a message goes, by the rules of `egress.routing` in order: the first that matches decides; one that sets the
 * class lets the next ones see it. Pure; who does what it says is delivery/departures.ts.
 */
import { domainKey } from '../base/domain.ts';
import { anyGlobOf } from '../base/glob.ts';
import type { Config } from '../config/schema.ts';
import { SMARTHOST } from '../mail/destination.ts';
import { ruleHopKey } from '../mail/operator-keys.ts';
import { domainPattern } from '../mail/selection.ts';

type Rule = Config['egress']['routing'][number];

/** What rules look at; '' where there is none. */
export interface Routed {
  tenant: string;
  campaign: string;
  class: string;
  fromDomain: string;
  recipientDomain: string;
  provider: string;
  /** The pool that the message names, of those that there are. */
  pool: string;
}

export type Result = 'pool' | 'route' | 'hold' | 'discard';

export interface Decision {
  result: Result;
  /** The pool's name, '' for none; the key of the next hop (as a lane has it); else the name of the rule. */
  value: string;
  /** Position of the rule that says so; null: the message names the pool, or no rule matches. */
  rule: number | null;
  /** The class of the message, as rules have set it. */
  class: string;
  /** Positions of the rules that set the class. */
  classRules: readonly number[];
}

const FIELD = {
  tenant: 'tenant',
  campaign: 'campaign',
  class: 'class',
  from_domain: 'fromDomain',
  recipient_domain: 'recipientDomain',
  provider: 'provider',
} as const satisfies Record<keyof Rule['match'], keyof Routed>;

/** Compared in the one form of domains. */
const DOMAINS: readonly string[] = ['from_domain', 'recipient_domain'];

type Test = (routed: Routed) => boolean;

interface Compiled {
  said: ReturnType<typeof resultOf>;
  /** The class that it sets. */
  kind: string;
  tests: Test[];
}

const NO_RULES: readonly number[] = [];

/** What a rule leads to, as the config has been checked: exactly one of them; null: it sets the class. */
export function resultOf(rule: Rule): { result: Result; value: string } | null {
  const { name = '', pool, route, next_hop: hop, hold, discard } = rule;
  if (pool !== undefined) return { result: 'pool', value: pool };
  if (route !== undefined) return { result: 'route', value: route === SMARTHOST ? route : domainKey(route) };
  if (hop !== undefined) return { result: 'route', value: ruleHopKey(hop) };
  if (hold === true) return { result: 'hold', value: name };
  return discard === true ? { result: 'discard', value: name } : null;
}

export class Routing {
  readonly #rules: Compiled[];
  /** Whether any rule does more than name a pool. */
  readonly judges: boolean;
  /** Whether a rule asks for the provider of the recipient. */
  readonly asksForProvider: boolean;

  constructor(rules: readonly Rule[]) {
    this.#rules = rules.map((rule) => ({
      said: resultOf(rule),
      kind: rule.class ?? '',
      tests: testsOf(rule.match),
    }));
    this.judges = rules.some(({ pool }) => pool === undefined);
    this.asksForProvider = rules.some(({ match }) => match.provider !== undefined);
  }

  /** @param released rules that hold the message no more. */
  decide(routed: Routed, released: readonly string[] = []): Decision {
    let seen = routed;
    let classRules = NO_RULES;
    for (let rule = 0; rule < this.#rules.length; rule++) {
      const { said, kind, tests } = this.#rules[rule] as Compiled;
      if (!tests.every((test) => test(seen))) continue;
      if (said === null) {
        seen = { ...seen, class: kind };
        classRules = [...classRules, rule];
      } else if (said.result === 'hold' && released.includes(said.value)) continue;
      else if (said.result === 'pool' && routed.pool !== '') break;
      else return { ...said, rule, class: seen.class, classRules };
    }
    return { result: 'pool', value: routed.pool, rule: null, class: seen.class, classRules };
  }
}

function testsOf(match: Rule['match']): Test[] {
  return Object.entries(FIELD).flatMap(([key, field]) => {
    const patterns = match[key as keyof typeof FIELD];
    if (patterns === undefined) return [];
    const matches = anyGlobOf(DOMAINS.includes(key) ? patterns.map(domainPattern) : patterns);
    return [(routed: Routed) => matches(routed[field])];
  });
}
