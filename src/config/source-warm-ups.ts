/** Plans of warm-up by source. Apart from the schema: threads that send want these, and not what checks a config. */
import type { WarmUpConfig } from './warmup-schema.ts';

/** The plan of one source. */
export type SourceWarmUp = Omit<WarmUpConfig, 'pool' | 'source'> & {
  source: string;
  /** Its place in the config. */
  index: number;
};

interface Warming {
  warmup: readonly WarmUpConfig[];
  egress: { pools: readonly { name: string; members: readonly { source: string; weight: number }[] }[] };
}

/** Plans by source: those of a pool are shared out among its members. */
export function sourceWarmUps({ warmup, egress }: Warming): SourceWarmUp[] {
  return warmup.flatMap(({ source, pool, ...plan }, index) => {
    if (pool === undefined) return [{ ...plan, source: source ?? '', index }];
    const members = egress.pools.find(({ name }) => name === pool)?.members ?? [];
    const total = members.reduce((sum, { weight }) => sum + weight, 0);
    return members.map(({ source, weight }) => ({
      ...plan,
      source,
      index,
      plan_messages_per_day: plan.plan_messages_per_day.map((messages) => partOf(messages, weight / total)),
      gates: { ...plan.gates, min_deliveries: partOf(plan.gates.min_deliveries, weight / total) },
    }));
  });
}

const partOf = (count: number, part: number): number => Math.max(1, Math.floor(count * part));
