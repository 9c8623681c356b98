/** What was learned, over a restart: a file in the data folder (../kept-lines.ts). What cannot be read is learned anew. */
import { readRecordLines } from '../../base/record-lines.ts';
import type { LearnedRecord } from './controller.ts';
import { isRateRecord } from './rate-record.ts';

export const LEARNED_FILE = 'adaptive.jsonl';

const MAX_FILE_BYTES = 268_435_456;

/** @returns what was learned, and how many lines are no records. */
export const readLearned = (path: string): { records: LearnedRecord[]; bad: number } =>
  readRecordLines(path, recordIn, MAX_FILE_BYTES);

function recordIn(line: string): LearnedRecord | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { key, rate, connections, reply } = value as Partial<LearnedRecord>;
  if (typeof key !== 'string' || typeof reply !== 'string') return null;
  if (rate !== null && !isRateRecord(rate)) return null;
  if (connections !== null && !(typeof connections === 'number' && connections >= 1)) return null;
  return {
    key,
    rate: rate === null ? null : { ...rate, epoch: Number(rate.epoch) || 0 },
    connections,
    reply,
  };
}
