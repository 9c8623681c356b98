/** How often one client may ask. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RequestRates } from '../../src/http/request-rates.ts';

test('so many in a minute, for each client by itself; then the wait is said, and is enough', () => {
  const rates = new RequestRates(3);
  assert.deepEqual(
    [1, 2, 3].map((ms) => rates.take('a', ms)),
    [0, 0, 0],
  );
  const waitS = rates.take('a', 1000);
  assert.ok(waitS > 0 && waitS <= 60, `${waitS}`);
  assert.equal(rates.take('b', 1000), 0);
  assert.equal(rates.take('a', 120_000), 0);
});

test('however they come: no calendar minute has more than allowed, and after the wait that is said one passes', () => {
  const steps = fc.array(fc.integer({ min: 0, max: 90_000 }), { maxLength: 200 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), steps, (perMin, gapsMs) => {
      const rates = new RequestRates(perMin);
      const taken: number[] = [];
      let nowMs = 0;
      for (const gapMs of gapsMs) {
        nowMs += gapMs;
        const waitS = rates.take('a', nowMs);
        if (waitS === 0) {
          taken.push(Math.floor(nowMs / 60_000));
          continue;
        }
        nowMs += waitS * 1000;
        // What was before has faded, or the minute is over: then what was in it fades.
        for (let tries = 0; rates.take('a', nowMs) > 0; tries++, nowMs += 1000) assert.ok(tries < 60);
        taken.push(Math.floor(nowMs / 60_000));
      }
      for (const minute of new Set(taken))
        assert.ok(taken.filter((one) => one === minute).length <= perMin, `minute ${minute}`);
    }),
  );
});
