/** How busy this thread is: what waits for a turn of its event loop waits so long. */
// Whole milliseconds, as base/steady.ts has them, are too coarse for it.
import { performance } from 'node:perf_hooks';

/** One turn, in seconds. */
export function turnS(): Promise<number> {
  const begunMs = performance.now();
  return new Promise((resolve) => {
    setImmediate(() => resolve((performance.now() - begunMs) / 1000));
  });
}
