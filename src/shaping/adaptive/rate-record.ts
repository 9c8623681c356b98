/** Whether what a file, or another process, has of a rate is a record of one. */
import type { RateRecord } from './rate-control.ts';

const PHASES: readonly unknown[] = ['free', 'doubling', 'probing', 'blocked', 'climbing'];
const NUMBERS = [
  'per_s',
  'plateau_ms',
  'grown_ms',
  'first_refusal_ms',
  'wait_ms',
  'probe_ms',
  'block_ms',
] as const;

export const isRateRecord = (rate: unknown): rate is RateRecord =>
  typeof rate === 'object' &&
  rate !== null &&
  PHASES.includes((rate as RateRecord).phase) &&
  NUMBERS.every((name) => Number.isFinite((rate as RateRecord)[name]));
