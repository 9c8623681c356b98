import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Pool, Pools } from '../../src/egress/pools.ts';

const pool = (name: string, weights: Record<string, number>, fallback = ''): Pool => ({
  name,
  members: Object.entries(weights).map(([source, weight]) => ({ source, weight })),
  retry_other_source: false,
  fallback_pool: fallback,
});
const all = (): boolean => true;
const id = (n: number): string => `1m8qx8vpdjw${n.toString(36).padStart(5, '0')}`;

test('shares are as the weights say, and each message keeps its source', () => {
  const pools = new Pools({ pools: [pool('p', { a: 1, b: 2, c: 5 })] });
  const counts: Record<string, number> = { a: 0, b: 0, c: 0 };
  for (let n = 0; n < 20_000; n++) {
    const { source } = pools.choose('p', id(n), all) ?? assert.fail();
    counts[source] = (counts[source] as number) + 1;
    if (n < 100) assert.deepEqual(pools.choose('p', id(n), all), { source, pool: 'p' });
  }
  for (const [source, share] of Object.entries({ a: 2500, b: 5000, c: 12_500 }))
    assert.ok(Math.abs((counts[source] as number) - share) < 400, `${source}: ${counts[source]}`);
});

test('when a member may not send only its own messages move, spread over the others', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.stringMatching(/^[a-e]$/), fc.integer({ min: 1, max: 9 }), { minKeys: 2 }),
      fc.integer({ min: 0, max: 1e6 }),
      (weights, n) => {
        const pools = new Pools({ pools: [pool('p', weights)] });
        const { source } = pools.choose('p', id(n), all) ?? assert.fail();
        for (const gone of Object.keys(weights)) {
          const now = pools.choose('p', id(n), (one) => one !== gone)?.source;
          if (gone === source) assert.ok(now !== undefined && now !== gone);
          else assert.equal(now, source);
          assert.equal(pools.choose('p', id(n), all, gone)?.source, now);
        }
      },
    ),
  );
});

test('a source to avoid is taken all the same where there is no other', () => {
  const pools = new Pools({ pools: [pool('p', { a: 1, b: 1 }), pool('one', { a: 1 })] });
  assert.equal(pools.choose('p', id(1), (source) => source === 'a', 'a')?.source, 'a');
  assert.equal(pools.choose('one', id(1), all, 'a')?.source, 'a');
});

test('a pool none of whose members may send falls back, and says which pool it was', () => {
  const pools = new Pools({
    pools: [pool('p', { a: 1 }, 'q'), pool('q', { b: 1 }, 'r'), pool('r', { c: 1 })],
  });
  assert.deepEqual(
    pools.choose('p', id(1), (source) => source === 'c'),
    { source: 'c', pool: 'r' },
  );
  assert.equal(
    pools.choose('p', id(1), () => false),
    null,
  );
  assert.equal(pools.choose('none', id(1), all), null);
});

test('pools that lead to one another end', () => {
  const pools = new Pools({ pools: [pool('p', { a: 1 }, 'q'), pool('q', { a: 1 }, 'p')] });
  assert.equal(
    pools.choose('p', id(1), () => false),
    null,
  );
});
