import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isTooOld, nextAttempt, type RetryRules, retryDelayMs } from '../../src/scheduler/retry.ts';

const RULES: RetryRules = {
  enabled: true,
  max_attempts: 8,
  initial_delay_ms: 60_000,
  max_delay_ms: 14_400_000,
  backoff_multiplier: 2,
  jitter_ratio: 0,
  max_age_ms: 432_000_000,
};

test('each delay is the one before times the multiplier, up to the longest', () => {
  const delays = [1, 2, 3, 8, 9, 10, 5000].map((attempts) => retryDelayMs(RULES, attempts, 0.5));
  assert.deepEqual(delays, [60_000, 120_000, 240_000, 7_680_000, 14_400_000, 14_400_000, 14_400_000]);
});

test('a deferral that never reached a peer waits as long as after the first attempt', () => {
  assert.equal(retryDelayMs(RULES, 0, 0.5), 60_000);
});

test('jitter varies a delay by its share up and down, also at the cap', () => {
  const rules = { ...RULES, jitter_ratio: 0.1 };
  assert.equal(retryDelayMs(rules, 1, 0), 54_000);
  assert.equal(retryDelayMs(rules, 1, 0.5), 60_000);
  assert.equal(Math.round(retryDelayMs(rules, 1, 0.999999)), 66_000);
  assert.equal(retryDelayMs(rules, 100, 0), 12_960_000);
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10_000 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (attempts, random) => {
        const delay = retryDelayMs(rules, attempts, random);
        assert.ok(Number.isInteger(delay) && delay >= 54_000 && delay <= 15_840_000);
      },
    ),
  );
});

test('the last allowed attempt expires instead of waiting', () => {
  assert.deepEqual(nextAttempt(RULES, 7, 0, 1000, 0, 0.5), { kind: 'retry', atMs: 1000 + 3_840_000 });
  assert.deepEqual(nextAttempt(RULES, 8, 0, 1000, 0, 0.5), { kind: 'expired', by: 'attempts' });
});

test('a recipient expires at max_age_ms and never waits beyond it', () => {
  const late = RULES.max_age_ms - 10;
  assert.deepEqual(nextAttempt(RULES, 1, 0, late, 0, 0.5), { kind: 'retry', atMs: RULES.max_age_ms });
  assert.deepEqual(nextAttempt(RULES, 1, 0, RULES.max_age_ms, 0, 0.5), { kind: 'expired', by: 'age' });
  assert.equal(isTooOld(RULES, 0, RULES.max_age_ms - 1), false);
  assert.equal(isTooOld(RULES, 0, RULES.max_age_ms), true);
});

test('a recipient expires at the deadline of its message and never waits beyond it', () => {
  const at = (nowMs: number, deadlineMs: number) => nextAttempt(RULES, 1, 0, nowMs, 0, 0.5, deadlineMs);
  assert.deepEqual(at(1000, 61_001), { kind: 'retry', atMs: 61_000 });
  assert.deepEqual(at(1000, 5000), { kind: 'retry', atMs: 5000 });
  assert.deepEqual(at(5000, 5000), { kind: 'expired', by: 'deadline' });
  assert.deepEqual(at(RULES.max_age_ms, 5000), { kind: 'expired', by: 'age' });
});

test('no retry before the end of a suspension', () => {
  assert.deepEqual(nextAttempt(RULES, 1, 0, 1000, 500_000, 0.5), { kind: 'retry', atMs: 500_000 });
});

test('a clock that stepped back does not expire a message', () => {
  assert.deepEqual(nextAttempt(RULES, 1, 5000, 1000, 0, 0.5), { kind: 'retry', atMs: 61_000 });
});

test('with retry off the first deferral is the last', () => {
  assert.deepEqual(nextAttempt({ ...RULES, enabled: false }, 1, 0, 0, 0, 0.5), { kind: 'disabled' });
});
