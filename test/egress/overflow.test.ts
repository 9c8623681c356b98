/** The pool of a warm-up that takes what its source may not send. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { Overflow } from '../../src/egress/overflow.ts';

const egress = {
  sources: [{ name: 'a' }, { name: 'b' }],
  pools: [{ name: 'q', members: [{ source: 'b' }] }],
};

test('each plan of a source has its own; one without lets mail wait, whatever the plan for the others says', () => {
  const warmup = [
    { source: 'a', providers: ['google'] },
    { source: 'a', providers: ['*'], overflow_pool: 'q' },
  ];
  for (const plans of [warmup, warmup.toReversed()]) {
    const overflow = new Overflow(configSchema.parse({ egress, warmup: plans }));
    assert.ok(overflow.active);
    assert.equal(overflow.poolOf('a', 'google', 'google'), '');
    assert.equal(overflow.poolOf('a', 'mx:mx.test', ''), 'q');
    assert.deepEqual(overflow.sourcesOf('a', 'yahoo', 'yahoo'), ['b']);
    assert.equal(overflow.poolOf('b', 'google', 'google'), '');
  }
  assert.ok(!new Overflow(configSchema.parse({ egress, warmup: [{ source: 'a' }] })).active);
});
