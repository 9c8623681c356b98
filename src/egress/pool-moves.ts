/** Mail that a rule on replies moved to another pool for some time (`move_pool`). Main sets the moves for all delivery threads. */
import type { RuleTarget } from '../config/delivery-rules-schema.ts';
import type { Routed } from './routing.ts';

export interface PoolMove {
  target: RuleTarget;
  value: string;
  /** Provider or site. */
  site: string;
  pool: string;
}

const VALUES: Record<Exclude<RuleTarget, 'source' | 'provider'>, (mail: Routed) => string> = {
  tenant: ({ tenant }) => tenant,
  campaign: ({ campaign }) => campaign,
  from_domain: ({ fromDomain }) => fromDomain,
};

export class PoolMoves {
  /** By site. */
  readonly #moves: Map<string, PoolMove[]>;

  constructor(moves: readonly PoolMove[]) {
    this.#moves = Map.groupBy(moves, ({ site }) => site);
  }

  get active(): boolean {
    return this.#moves.size > 0;
  }

  /** @param source by which the mail leaves otherwise. @returns the pool; '' where no rule has moved it. */
  poolOf(site: string, mail: Routed, source: string): string {
    for (const { target, value, pool } of this.#moves.get(site) ?? []) {
      if (target === 'provider') return pool;
      if (value === (target === 'source' ? source : VALUES[target](mail))) return pool;
    }
    return '';
  }
}
