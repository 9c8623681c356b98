/** The limits of sites in a delivery thread whose process has no slot left. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitKeyText } from '../../src/shaping/limit-key.ts';
import { createLimitTable, SLOTS } from '../../src/shaping/limit-table.ts';
import { ThreadLimits } from '../../src/shaping/thread-limits.ts';

test('beyond the table each site has limits of its own in the thread, however many come and go', async () => {
  const data = { rollup: 'mx_set' as const, limits: { max_connections: 1 }, total: {}, providers: [] };
  let free = 0;
  const limits: ThreadLimits = new ThreadLimits(data, {
    table: createLimitTable(),
    later: queueMicrotask,
    post: ({ ask, free: given }) => {
      free += given.length;
      limits.slots(ask.map((key) => ({ key: limitKeyText(key), slot: -1 })));
    },
  });
  for (let i = 0; i < SLOTS + 100; i++) {
    const lane = await limits.enter({ key: `mx:h${i}.test`, provider: '' }, '');
    assert.equal(lane.takeConnection(1000), 0);
    assert.notEqual(lane.takeConnection(1000), 0);
    lane.freeConnection();
    limits.release(lane);
  }
  assert.ok(free > SLOTS / 2, 'they are forgotten');
});
