import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isoTime } from '../../src/base/iso-time.ts';

test('a time is written as Date writes it, on every day of 430 years', () => {
  const DAY_MS = 86_400_000;
  for (let day = 0; day * DAY_MS < Date.UTC(2400, 2); day++) {
    // Each day another time of it, down to the millisecond.
    const ms = day * DAY_MS + ((day * 7_919_131) % DAY_MS);
    if (isoTime(ms) !== new Date(ms).toISOString()) assert.equal(isoTime(ms), new Date(ms).toISOString());
  }
});

test('the ends of days, and times of other forms', () => {
  const ends = [
    0, 1, 999, 1000, 86_399_999, 951_782_399_999, 951_868_800_000, 4_107_542_400_000, 253_402_300_799_999,
  ];
  for (const ms of [...ends, -1, 253_402_300_800_000, 1.9, 8.64e15])
    assert.equal(isoTime(ms), new Date(ms).toISOString());
  for (const ms of [Number.NaN, 8.65e15]) assert.throws(() => isoTime(ms), RangeError);
});
