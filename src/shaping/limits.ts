/** What may be limited at a provider: the names, what each may be, and how two sets of limits are put together. */
import { z } from 'zod';

const DAY_MS = 86_400_000;
const count = (min: number, max: number) => z.int().min(min).max(max);
const rate = () => z.number().min(0).max(1_000_000_000);

/** Limits that hold for a provider and a source; those of TOTALS also for a provider in all (`total_…`). */
export const LIMITS = {
  max_connections: count(0, 10_000),
  connections_per_min: rate(),
  messages_per_connection: count(1, 1_000_000),
  messages_per_s: rate(),
  messages_per_h: rate(),
  messages_per_day: rate(),
  recipients_per_transaction: count(1, 100_000),
  idle_connection_ms: count(0, 3_600_000),
  tls: z.enum(['opportunistic', 'required', 'verify']),
  connect_failures_before_pause: count(1, 1000),
  pause_ms: count(100, DAY_MS),
  ip_family: z.enum(['any', 'ipv4', 'ipv6']),
} as const;

export const RETRY = z.strictObject({
  delays_ms: z
    .array(count(10, 30 * DAY_MS))
    .min(1)
    .max(100),
});

export const TOTALS = [
  'max_connections',
  'connections_per_min',
  'messages_per_s',
  'messages_per_h',
  'messages_per_day',
] as const;
export type Total = (typeof TOTALS)[number];

type Values = { [K in keyof typeof LIMITS]: z.output<(typeof LIMITS)[K]> };
/** What is absent is not limited here; 0 connections, or messages in a time, is no limit either. */
export type Limits = Partial<Values> & { retry?: z.output<typeof RETRY> };
export type Totals = Partial<Pick<Values, Total>>;

const totalName = <K extends Total>(name: K): `total_${K}` => `total_${name}`;

/** Every key that a provider may have besides those that say who it is. */
export const LIMIT_NAMES: readonly string[] = [...Object.keys(LIMITS), 'retry', ...TOTALS.map(totalName)];

/** Keys that a source may have of its own at a provider. Its address has a family already. */
export const SOURCE_LIMIT_NAMES: readonly string[] = [
  ...Object.keys(LIMITS).filter((name) => name !== 'ip_family'),
  'retry',
];

/** The schema of a limit by its name, `total_…` included; null for a name that is none. */
export function schemaOfLimit(name: string): z.ZodType | null {
  if (name === 'retry') return RETRY;
  const plain = name.startsWith('total_') ? name.slice('total_'.length) : name;
  if (plain !== name && !(TOTALS as readonly string[]).includes(plain)) return null;
  return Object.hasOwn(LIMITS, plain) ? LIMITS[plain as keyof typeof LIMITS] : null;
}
