/**
 * Most events in any span of a time, as GCRA counts them (ITU-T I.371): each event has a place in time at a distance of
 * `stepUs` from the last, and may come up to `slackUs` early. The two are chosen so that no span of the whole time, wherever
 * it begins, has more events than the limit.
 */
export interface RateSpan {
  spanMs: number;
  /** The part of the limit that may go at once. */
  burstShare: number;
}

/** In the order of the buckets of a slot. */
export const SPANS = {
  messages_per_s: { spanMs: 1000, burstShare: 1 / 4 },
  messages_per_h: { spanMs: 3_600_000, burstShare: 1 / 60 },
  messages_per_day: { spanMs: 86_400_000, burstShare: 1 / 24 },
  connections_per_min: { spanMs: 60_000, burstShare: 1 / 6 },
} as const satisfies Record<string, RateSpan>;
export type RateName = keyof typeof SPANS;
export const RATE_NAMES = Object.keys(SPANS) as RateName[];

export interface Pace {
  /** 0: no limit. */
  stepUs: number;
  slackUs: number;
}

export const NO_PACE: Pace = { stepUs: 0, slackUs: 0 };

/** @param limit most events in the span; 0: no limit. */
export function paceOf(limit: number, { spanMs, burstShare }: RateSpan): Pace {
  if (limit === 0) return NO_PACE;
  const burst = Math.max(1, Math.floor(limit * burstShare));
  const stepUs = (spanMs * 1000) / Math.max(limit - burst + 1, Math.min(limit, 1));
  return { stepUs, slackUs: (burst - 1) * stepUs };
}
