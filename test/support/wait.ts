/** Waiting for what must come about. Limits are those of an idle machine; a busy one has three times as long. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Limits are there for what hangs: others may use the machine. */
export const PATIENCE = 3;

/** Waits until it holds. */
export async function until(holds: () => boolean, what: string, withinMs = 5000): Promise<void> {
  for (const endMs = performance.now() + withinMs * PATIENCE; !holds(); await sleep(5))
    if (performance.now() > endMs) assert.fail(`not within ${withinMs * PATIENCE} ms: ${what}`);
}

/** Waits until `check` throws no more. */
export async function eventually(check: () => void | Promise<void>, withinMs = 5000): Promise<void> {
  for (const endMs = performance.now() + withinMs * PATIENCE; ; await sleep(5)) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() > endMs) throw error;
    }
  }
}
