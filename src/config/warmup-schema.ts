/** Options of warm-up: `warmup` (docs/warmup.md). */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const live = { live: true } as const;
const ratio = (fallback: number, what: string) => z.number().min(0).max(1).default(fallback).describe(what).meta(live);

const gates = z.strictObject({
  min_deliveries: z.int().min(1).max(10_000_000).default(200).describe('Fewer deliveries say nothing of the ratios.').meta(live),
  max_bounce_ratio: ratio(0.03, 'Bounces of deliveries and bounces, from which on the day is repeated; above 0.05 it goes back a step.'),
  max_complaint_ratio: ratio(0.001, 'The same of complaints; above 0.003 it goes back a step.'),
  max_deferral_ratio: ratio(0.05, 'The same of messages that were deferred for their number.'),
});

export const warmUp = z.strictObject({
  source: z.string().max(64).optional().describe('Name of the source (egress.sources); empty: the default one. Either `source` or `pool`.').meta(live),
  pool: z.string().min(1).max(64).optional().describe('A pool (egress.pools) whose members warm up together: each has its part of each day, by its weight, and goes through the plan for itself.').meta(live),
  providers: z.array(z.string().min(1).max(200)).min(1).max(1000).default(['*']).describe('Providers (config/shaping.json) or sites; `*` for all that no other plan of the source names. Each goes through the plan for itself.').meta(live),
  plan_messages_per_day: z.array(z.int().min(1).max(1_000_000_000)).min(1).max(365).default([50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000]).describe('Messages at most on each sending day, of all relay processes of the host; after the last there is no limit.').meta(live),
  start_date: z.union([z.literal(''), z.iso.date()]).default('').describe('The first sending day, as 2027-01-04; nothing is sent before. Empty: at once.').meta(live),
  time_zone: z.string().min(1).max(64).default('UTC').describe('Where the days are those of, as Europe/Berlin.').meta(live),
  window: z.string().max(11).default('08:00-20:00').describe('Hours over which a day’s messages are spread evenly; outside, mail waits. It may go past midnight, and belongs to the day it begins on.').meta(live),
  overflow_pool: z.string().max(64).default('').describe('The pool (egress.pools) by which mail leaves that the source may not send now because of the plan, or of another limit there. Empty: it waits.').meta(live),
  gates: gates.prefault({}),
});

export type WarmUpConfig = z.output<typeof warmUp>;
