/** How long a relay that ends waits for servers that are away: not at all for what is kept elsewhere. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { finishWork, type LastWork } from '../../src/relay/drain.ts';

const LONG_MS = 60_000;
/** Ends when the tests have. */
const { promise: never, resolve: end } = Promise.withResolvers<void>();
const acknowledged = { retrying: 1 };
after(() => {
  acknowledged.retrying = 0;
  end();
});

/** Two shards, of which 1 is away; results wait for these. */
function work(waitFor: number[], changes: Partial<LastWork> = {}): LastWork {
  return {
    commits: {
      drain: () => (waitFor.length === 0 ? Promise.resolve() : never),
      busy: () => waitFor,
      holdsMail: false,
    },
    journal: null,
    intake: { retrying: 0 },
    shards: { isUp: (shard) => shard === 0 },
    ...changes,
  };
}

async function tookMs(last: LastWork, atMostMs: number): Promise<number> {
  const beganMs = performance.now();
  await Promise.race([finishWork(last, LONG_MS), sleep(atMostMs, undefined, { ref: false })]);
  return performance.now() - beganMs;
}

describe('the last work of a relay', { concurrency: true }, () => {
  it('results for a shard that is away are kept: two seconds', async () => {
    const ms = await tookMs(work([1]), 10_000);
    assert.ok(ms > 1900 && ms < 8000, `${ms} ms`);
  });

  it('so is mail in the journal', async () => {
    const journal = { settled: async () => {}, drained: () => never, busy: () => [1] };
    const ms = await tookMs(work([], { journal }), 10_000);
    assert.ok(ms > 1900 && ms < 8000, `${ms} ms`);
  });

  it('a shard that answers is waited for, and mail that is acknowledged and nowhere else', async () => {
    const commits = { drain: () => never, busy: () => [1], holdsMail: true };
    const journal = { settled: async () => {}, drained: () => never, busy: () => [0, 1] };
    const waits = [
      work([0, 1]),
      work([1], { intake: acknowledged }),
      work([1], { commits }),
      work([], { journal }),
    ];
    for (const ms of await Promise.all(waits.map((last) => tookMs(last, 3500))))
      assert.ok(ms > 3400, `${ms} ms`);
  });

  it('nothing to do takes no time, with sqlite too', async () => {
    assert.ok((await tookMs(work([]), 1000)) < 900);
    assert.ok((await tookMs(work([], { shards: null }), 1000)) < 900);
  });

  it('a commit that fails is told', async () => {
    const commits = { drain: () => Promise.reject(new Error('broken')), busy: () => [0], holdsMail: false };
    await assert.rejects(finishWork(work([0], { commits }), LONG_MS), /broken/);
  });
});
