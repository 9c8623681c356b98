/** Limits learned of how connections end, as `shaping show` and `route` print them: read from the files of the relay processes. */
import { join } from 'node:path';
import type { LearnedLimit } from '../shaping/learned/learned-limits.ts';
import { LEARNED_LIMITS_FILE, readLearnedLimits } from '../shaping/learned/learned-limits-file.ts';
import { processFolders } from './learned-shown.ts';

export interface ShownLearnedLimit {
  /** '' for the default one. */
  source: string;
  limit: LearnedLimit['limit'];
  value: number;
  since: string;
  until: string;
  cause: LearnedLimit['cause'];
  /** The peer's last word; '' where it said nothing. */
  reply: string;
  /** The folder of the relay process. */
  folder: string;
}

/** By site. */
export function learnedLimitsBySite(dataDir: string, nowMs: number): Map<string, ShownLearnedLimit[]> {
  const bySite = new Map<string, ShownLearnedLimit[]>();
  for (const folder of processFolders(dataDir))
    for (const record of readLearnedLimits(join(folder, LEARNED_LIMITS_FILE)).records) {
      const { site, since_ms, until_ms, ...shown } = record;
      if (until_ms <= nowMs) continue;
      const all = bySite.get(site) ?? [];
      bySite.set(site, all);
      all.push({ ...shown, since: timeAt(since_ms), until: timeAt(until_ms), folder });
    }
  return bySite;
}

/** A line for each. */
export const learnedLimitLines = (learned: readonly ShownLearnedLimit[]): string[] =>
  learned.map(({ source, limit, value, since, until, cause, reply }) => {
    const why = `${cause}${reply === '' ? '' : `: ${reply}`}`;
    return `  learned: source ${source === '' ? '(default)' : source} ${limit} ${value}, ${since} until ${until} (${why})`;
  });

const timeAt = (ms: number): string => new Date(ms).toISOString();
