/**
 * What was used of limits by hour and by day, as text that outlives a restart: for each key when its counts have run down, as
 * times of day. Of a file that is damaged, what can be read counts; a time later than a whole span from now is that of a clock
 * that was set, and becomes the span.
 */
import type { Counts, LimitKeys } from './limit-keys.ts';
import { type RateName, SPANS } from './rate.ts';

/** Shorter ones have run down before a restart is over. */
const KEPT = ['messages_per_h', 'messages_per_day'] as const satisfies RateName[];

/** @returns '' where nothing is counted. */
export function writeCounts(keys: Pick<LimitKeys, 'counts'>, steadyMs: number, wallMs: number): string {
  const all: Record<string, Counts> = {};
  for (const [name, counts] of keys.counts(KEPT)) {
    const ends = Object.entries(counts).map(([rate, nextUs]) => [
      rate,
      Math.round(nextUs / 1000 - steadyMs + wallMs),
    ]);
    all[name] = Object.fromEntries(ends);
  }
  return Object.keys(all).length === 0 ? '' : `${JSON.stringify(all)}\n`;
}

/** @returns counts in microseconds of steady time. */
export function readCounts(text: string, steadyMs: number, wallMs: number): Map<string, Counts> {
  const counts = new Map<string, Counts>();
  for (const [name, ends] of Object.entries(objectOf(text))) {
    const one: Counts = {};
    for (const rate of KEPT) {
      const endMs = (ends as Counts | null)?.[rate];
      if (typeof endMs !== 'number' || !(endMs > wallMs)) continue;
      one[rate] = (steadyMs + Math.min(endMs - wallMs, SPANS[rate].spanMs)) * 1000;
    }
    if (Object.keys(one).length > 0) counts.set(name, one);
  }
  return counts;
}

function objectOf(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}
