/** A reporter for `node --test` beside the usual one: names, at the end, the test files that took longest. */
import { relative } from 'node:path';

interface TestEvent {
  type: string;
  data: { nesting?: number; file?: string; details?: { duration_ms?: number } };
}

const SHOWN = 10;

export default async function* slowest(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const msOf = new Map<string, number>();
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.nesting !== 0 || data.file === undefined)
      continue;
    const file = relative(process.cwd(), data.file);
    msOf.set(file, (msOf.get(file) ?? 0) + (data.details?.duration_ms ?? 0));
  }
  if (msOf.size <= SHOWN) return;
  const sorted = [...msOf].sort(([, a], [, b]) => b - a);
  const totalMs = sorted.reduce((sum, [, ms]) => sum + ms, 0);
  yield `slowest of ${msOf.size} test files (${seconds(totalMs)} s in all, starts of processes apart):\n`;
  for (const [file, ms] of sorted.slice(0, SHOWN)) yield `${seconds(ms).padStart(8)} s  ${file}\n`;
}

const seconds = (ms: number): string => (ms / 1000).toFixed(1);
