/** Descriptors of this process, to tell whether a test left some behind, and which. */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';

/** '23 socket:[4711]' for each that is open; none where the system does not say. */
function open(): string[] {
  try {
    return readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
      } catch {
        // The one that this folder was read with.
        return [];
      }
    });
  } catch {
    return [];
  }
}

/** What closes late on a busy machine is no leak; what is open after so long is one. */
const PATIENCE_MS = 10_000;

/** What is open now; the function it gives waits until no more is open than that, and else names what is. */
export function countDescriptors(): () => Promise<void> {
  const before = open();
  return async () => {
    const until = performance.now() + PATIENCE_MS;
    let after = open();
    while (after.length > before.length && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      after = open();
    }
    const left = after.filter((one) => !before.includes(one));
    assert.ok(
      after.length <= before.length,
      `${after.length} descriptors, ${before.length} before: ${left.join(', ')}`,
    );
  };
}
