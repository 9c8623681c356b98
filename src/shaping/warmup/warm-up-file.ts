/** Records of warm-ups on disk: a JSON object a line, `key` beside the record. A new file is renamed over the old one. */
import { renameSync, writeFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { readRecordLines } from '../../base/record-lines.ts';
import { NEW_WARM_UP, type WarmUpRecord } from './warm-up.ts';

export const WARM_UP_FILE = 'warmup.jsonl';
const FILE_MODE = 0o600;
const MAX_FILE_BYTES = 67_108_864;
const DAY = /^(?:|\d{4}-\d\d-\d\d)$/;

export interface KeptWarmUp {
  source: string;
  site: string;
  record: WarmUpRecord;
}

/** @returns what is there, and how many lines are no records. */
export const readWarmUps = (path: string): { records: KeptWarmUp[]; bad: number } =>
  readRecordLines(path, keptIn, MAX_FILE_BYTES);

function keptIn(line: string): KeptWarmUp | null {
  let value: Partial<KeptWarmUp> | null;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  const { source, site, record } = value ?? {};
  if (typeof source !== 'string' || typeof site !== 'string' || typeof record !== 'object' || record === null)
    return null;
  const whole = { ...NEW_WARM_UP, ...record };
  for (const [name, sample] of Object.entries(NEW_WARM_UP)) {
    const one = whole[name as keyof WarmUpRecord];
    if (typeof one !== typeof sample) return null;
    if (typeof one === 'number' && !(Number.isSafeInteger(one) && one >= 0)) return null;
  }
  return DAY.test(whole.day) && DAY.test(whole.last_day) ? { source, site, record: whole } : null;
}

const textOf = (all: Iterable<KeptWarmUp>): string =>
  [...all].map((one) => `${JSON.stringify(one)}\n`).join('');

export async function writeWarmUps(path: string, all: Iterable<KeptWarmUp>): Promise<void> {
  await writeFile(`${path}.new`, textOf(all), { mode: FILE_MODE, flush: true });
  await rename(`${path}.new`, path);
}

export function writeWarmUpsSync(path: string, all: Iterable<KeptWarmUp>): void {
  writeFileSync(`${path}.new`, textOf(all), { mode: FILE_MODE, flush: true });
  renameSync(`${path}.new`, path);
}
