/** What was learned of how connections end, over a restart: a file in the data folder (../kept-lines.ts). */
import { readRecordLines } from '../../base/record-lines.ts';
import type { LearnedLimit } from './learned-limits.ts';

export const LEARNED_LIMITS_FILE = 'learned.jsonl';

const MAX_FILE_BYTES = 67_108_864;
const LIMITS: readonly unknown[] = ['messages_per_connection', 'max_connections'];
const CAUSES: readonly unknown[] = ['per_connection_limit', 'closed', 'connection_limit', 'refused'];

/** @returns what was learned, and how many lines are no records. */
export const readLearnedLimits = (path: string): { records: LearnedLimit[]; bad: number } =>
  readRecordLines(path, recordIn, MAX_FILE_BYTES);

function recordIn(line: string): LearnedLimit | null {
  let read: Partial<LearnedLimit> | null;
  try {
    read = JSON.parse(line);
  } catch {
    return null;
  }
  const { site, source, limit, value, since_ms, until_ms, cause, reply } = read ?? {};
  if (typeof site !== 'string' || typeof source !== 'string' || typeof reply !== 'string') return null;
  if (limit === undefined || !LIMITS.includes(limit) || cause === undefined || !CAUSES.includes(cause))
    return null;
  if (!isCount(value) || value < 1 || !isCount(since_ms) || !isCount(until_ms)) return null;
  return { site, source, limit, value, since_ms, until_ms, cause, reply };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
