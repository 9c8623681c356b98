/** Options of limits learned from refusals: `adaptive` (docs/adaptive.md). */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const live = { live: true } as const;
const DAY_MS = 86_400_000;
const ms = (min: number, max: number) => z.int().min(min).max(max);
const rate = () => z.number().min(0).max(1_000_000);

const bounds = z.strictObject({
  floor_per_s: rate().default(0).describe('Messages a second below which no refusal cuts. 0: none (one an hour).').meta(live),
  ceiling_per_s: rate().default(0).describe('Messages a second above which the rate does not grow; it holds before the first refusal too. 0: none.').meta(live),
  start_per_s: rate().default(0).describe('Messages a second to begin with, doubled every 10 s while they are used. 0: no rate before the first refusal.').meta(live),
});

export const adaptive = z.strictObject({
  mode: z.enum(['on', 'observe', 'off']).default('on').describe('on: what peers refuse limits what is sent to them, until they take more. observe: only events and log say what the limits would be. off: neither.').meta(live),
  beta_ratio: z.number().min(0.1).max(0.99).default(0.85).describe('What is left of the rate right after it was cut.').meta(live),
  min_plateau_ms: ms(1000, DAY_MS).default(30_000).describe('Shortest time until the rate is at what was refused last.').meta(live),
  max_plateau_ms: ms(1000, 30 * DAY_MS).default(14_400_000).describe('Longest.').meta(live),
  probe_cost_ratio: z.number().min(0.001).max(1).default(0.05).describe('The part of the time that refusals may take: the plateau is as many times longer than the peer refused.').meta(live),
  first_probe_ms: ms(100, DAY_MS).default(1000).describe('Pause after a cut, before one message is tried.').meta(live),
  max_probe_ms: ms(100, DAY_MS).default(300_000).describe('Longest pause between such tries; each is half as long again as the last.').meta(live),
  max_keys: z.int().min(100).max(10_000_000).default(100_000).describe('Sources, tenants, recipients … at sites that are remembered by a relay process; the one that was used least lately is forgotten.'),
  providers: z.record(z.string().min(1).max(200), bounds).default({}).describe('Bounds by provider (config/shaping.json) or site; `*` for all others.').meta(live),
});

export type AdaptiveConfig = z.output<typeof adaptive>;
