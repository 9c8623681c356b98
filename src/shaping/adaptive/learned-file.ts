/**
 * What was learned, over a restart: a file in the data folder, one JSON object a line. It is written when something changed, at
 * once, but not sooner than ten seconds after the last time; a new file is renamed over the old one. What cannot be read is learned anew.
 */
import { rename, writeFile } from 'node:fs/promises';
import { readRegularText } from '../../base/regular-file.ts';
import type { LearnedRecord } from './controller.ts';
import type { RateRecord } from './rate-control.ts';

export const LEARNED_FILE = 'adaptive.jsonl';

const EVERY_MS = 10_000;
const FILE_MODE = 0o600;
const MAX_FILE_BYTES = 268_435_456;
const PHASES: readonly unknown[] = ['free', 'doubling', 'probing', 'blocked', 'climbing'];
const NUMBERS = ['per_s', 'plateau_ms', 'grown_ms', 'first_refusal_ms', 'wait_ms', 'probe_ms', 'block_ms'] as const;

export interface LearnedFilePorts {
  path: string;
  records(): Iterable<LearnedRecord>;
  /** Steady time. */
  now(): number;
  setTimer(ms: number, fire: () => void): void;
  failed(error: unknown): void;
}

/** @returns what was learned, and how many lines are no records. */
export function readLearned(path: string): { records: LearnedRecord[]; bad: number } {
  let text: string;
  try {
    text = readRegularText(path, MAX_FILE_BYTES);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { records: [], bad: 0 };
    throw error;
  }
  const lines = text.split('\n').filter((line) => line !== '');
  const records = lines.flatMap((line) => recordIn(line) ?? []);
  return { records, bad: lines.length - records.length };
}

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
  if (rate !== null && !isRate(rate)) return null;
  if (connections !== null && !(typeof connections === 'number' && connections >= 1)) return null;
  return { key, rate, connections, reply };
}

const isRate = (rate: unknown): rate is RateRecord =>
  typeof rate === 'object' &&
  rate !== null &&
  PHASES.includes((rate as RateRecord).phase) &&
  NUMBERS.every((name) => Number.isFinite((rate as RateRecord)[name]));

export class LearnedFile {
  readonly #ports: LearnedFilePorts;
  #writtenMs = Number.NEGATIVE_INFINITY;
  #isDue = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(ports: LearnedFilePorts) {
    this.#ports = ports;
  }

  /** Whether it was written since the start. */
  get written(): boolean {
    return Number.isFinite(this.#writtenMs);
  }

  /** Something changed that is to survive. */
  changed(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    const waitMs = this.#writtenMs + EVERY_MS - this.#ports.now();
    // Not before what changed along with it is there too.
    this.#ports.setTimer(Math.max(0, waitMs), () => this.#write());
  }

  #write(): void {
    this.#isDue = false;
    this.#writtenMs = this.#ports.now();
    this.#writing = this.#writing.then(() => this.#put()).catch((error) => this.#ports.failed(error));
  }

  async #put(): Promise<void> {
    const { path, records } = this.#ports;
    let text = '';
    for (const record of records()) text += `${JSON.stringify(record)}\n`;
    await writeFile(`${path}.new`, text, { mode: FILE_MODE, flush: true });
    await rename(`${path}.new`, path);
  }

  /** Writes the last state. */
  async close(): Promise<void> {
    this.#write();
    await this.#writing;
  }
}
