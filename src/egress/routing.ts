/** Which pool a message leaves from: the one that it names, else that of the first rule that matches it. */
import { anyGlobOf } from '../base/glob.ts';
import type { Config } from '../config/schema.ts';

type Rule = Config['egress']['routing'][number];

/** What rules look at; '' where there is none. */
export interface Routed {
  tenant: string;
  campaign: string;
  class: string;
  fromDomain: string;
  recipientDomain: string;
  provider: string;
  /** The pool that the message names. */
  pool: string;
}

const FIELD = {
  tenant: 'tenant',
  campaign: 'campaign',
  class: 'class',
  from_domain: 'fromDomain',
  recipient_domain: 'recipientDomain',
  provider: 'provider',
} as const satisfies Record<keyof Rule['match'], keyof Routed>;

type Test = (routed: Routed) => boolean;

export class Routing {
  readonly #rules: { pool: string; tests: Test[] }[];

  constructor(rules: readonly Rule[]) {
    this.#rules = rules.map(({ match, pool }) => ({ pool, tests: testsOf(match) }));
  }

  /** @returns the pool, '' for none, and which rule says so: null when the message names it, or none matches. */
  poolOf(routed: Routed): { pool: string; rule: number | null } {
    if (routed.pool !== '') return { pool: routed.pool, rule: null };
    for (let rule = 0; rule < this.#rules.length; rule++) {
      const { pool, tests } = this.#rules[rule] as { pool: string; tests: Test[] };
      if (tests.every((test) => test(routed))) return { pool, rule };
    }
    return { pool: '', rule: null };
  }
}

function testsOf(match: Rule['match']): Test[] {
  return Object.entries(FIELD).flatMap(([key, field]) => {
    const patterns = match[key as keyof typeof FIELD];
    if (patterns === undefined) return [];
    const matches = anyGlobOf(patterns);
    return [(routed: Routed) => matches(routed[field])];
  });
}
