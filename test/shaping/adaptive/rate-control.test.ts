import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  penaltyBox,
  ratios,
  secondsUntil,
  simulate,
  sum,
  tokenBucket,
} from '../../../bench/lib/limited-peer.ts';
import { RateControl } from '../../../src/shaping/adaptive/rate-control.ts';
import { type Bounds, DEFAULTS, FREE } from '../../../src/shaping/adaptive/settings.ts';

const HOUR_S = 3600;

describe('against peers that limit, on a simulated clock', () => {
  test('a token bucket of 20/s is used to 95 % in the second hour, with 1 % refused', () => {
    const run = simulate({ peer: tokenBucket(() => 20), forMs: 2 * HOUR_S * 1000, stepMs: 20 });
    const { used, refused } = ratios(run, HOUR_S, 2 * HOUR_S, 20);
    assert.ok(used >= 0.95, `used ${used}`);
    assert.ok(refused <= 0.01, `refused ${refused}`);
  });

  test('a limit that doubles is found within 120 s; one that halves costs 2 % from 10 s on', () => {
    const changes = (factor: number) => (nowMs: number) => (nowMs < HOUR_S * 500 ? 30 : 30 * factor);
    const forMs = (HOUR_S / 2 + 300) * 1000;
    const doubled = simulate({ peer: tokenBucket(changes(2)), forMs, stepMs: 20 });
    assert.ok(secondsUntil(doubled, HOUR_S / 2, 57) <= 120);
    const halved = simulate({ peer: tokenBucket(changes(0.5)), forMs, stepMs: 20 });
    const { used, refused } = ratios(halved, HOUR_S / 2 + 10, HOUR_S / 2 + 300, 15);
    assert.ok(refused <= 0.02, `refused ${refused}`);
    assert.ok(used >= 0.9, `used ${used}`);
  });

  for (const minutes of [1, 15])
    test(`100 a minute, else ${minutes} min of refusals: 85 % after 6 h, 0.5 % refused`, () => {
      const run = simulate({
        peer: penaltyBox(100, minutes * 60_000),
        forMs: 18 * HOUR_S * 1000,
        stepMs: 200,
      });
      const { used, refused } = ratios(run, 6 * HOUR_S, 18 * HOUR_S, 100 / 60);
      assert.ok(used >= 0.85, `used ${used}`);
      assert.ok(refused <= 0.005, `refused ${refused}`);
    });

  test('a rate of which little is used does not grow, and is cut to what was used', () => {
    let allowed = 100;
    const peer = tokenBucket(() => allowed);
    simulate({ peer, forMs: 60_000 });
    const control = new RateControl(DEFAULTS, () => FREE, 0);
    control.answered(100, 100, 0, 1000);
    control.refused(1000, 1100);
    assert.equal(control.answered(1, 1, 2100, 2200), true);
    const before = control.perS;
    for (let now = 3000; now < 600_000; now += 1000) {
      control.answered(1, 1, now, now);
      control.tick(now);
    }
    assert.equal(control.perS, before);
    allowed = 1;
    control.refused(600_000, 600_000);
    assert.ok(control.perS < before / 5, `${control.perS} after ${before}`);
  });
});

/** What can happen to a key, at steps of time that may be long, zero or backwards. */
const events = fc.array(
  fc.record({
    stepMs: fc.oneof({ weight: 8, arbitrary: fc.nat(5000) }, fc.integer({ min: -100_000, max: 10_000_000 })),
    kind: fc.constantFrom('answered', 'refused', 'blocked', 'tick'),
    agoMs: fc.nat(10_000),
    messages: fc.nat(1000),
  }),
  { maxLength: 60 },
);

const bounds = fc
  .record({
    floorPerS: fc.double({ min: 0, max: 10, noNaN: true }),
    above: fc.double({ min: 0, max: 100, noNaN: true }),
    starts: fc.boolean(),
  })
  .map(
    ({ floorPerS, above, starts }): Bounds => ({
      floorPerS,
      ceilingPerS: floorPerS + above + 0.1,
      startPerS: starts ? floorPerS + 0.1 : Number.POSITIVE_INFINITY,
    }),
  );

describe('whatever happens', () => {
  test('the rate stays between floor and ceiling, and what is held opens within six hours', () => {
    fc.assert(
      fc.property(events, bounds, (all, limits) => {
        const control = new RateControl(DEFAULTS, () => limits, 0);
        let now = 0;
        for (const { stepMs, kind, agoMs, messages } of all) {
          now += stepMs;
          if (kind === 'answered') control.answered(messages, messages, now - agoMs, now);
          else if (kind === 'refused') control.refused(now - agoMs, now);
          else if (kind === 'blocked') control.blocked(now - agoMs, now);
          else control.tick(now);
          assert.ok(control.perS >= limits.floorPerS, 'below the floor');
          assert.ok(control.perS <= limits.ceilingPerS, 'above the ceiling');
          const { perS, closedUntilMs } = control.limit();
          assert.ok(perS > 0 && !Number.isNaN(perS));
          if (stepMs >= 0 && kind !== 'tick')
            assert.ok(closedUntilMs <= now + 21_600_000 + 100_000 * all.length);
        }
      }),
    );
  });

  test('refusals of what was sent before the last cut change nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5000), { minLength: 1, maxLength: 50 }), (ago) => {
        const control = new RateControl(DEFAULTS, () => FREE, 0);
        control.answered(1000, 1000, 0, 10_000);
        assert.equal(control.refused(9_000, 10_000), true);
        const before = control.limit();
        for (const ms of ago) assert.equal(control.refused(9_999 - ms, 10_000 + ms), false);
        assert.deepEqual(control.limit(), before);
        control.answered(1, 1, 11_000, 11_100);
        const opened = control.perS;
        for (const ms of ago) assert.equal(control.refused(9_999 - ms, 11_100 + ms), false);
        assert.equal(control.perS, opened);
      }),
    );
  });

  test('a clock that jumps, forwards or back, lets no rate grow by more than a few seconds would', () => {
    fc.assert(
      fc.property(fc.integer({ min: -10_000_000, max: 1_000_000_000 }), (jumpMs) => {
        const control = new RateControl(DEFAULTS, () => FREE, 0);
        control.answered(1000, 1000, 0, 10_000);
        control.refused(9_000, 10_000);
        control.answered(1, 1, 11_000, 11_100);
        const before = control.perS;
        const after = 11_100 + jumpMs;
        control.answered(1_000_000_000, 1_000_000_000, after, after);
        control.tick(after);
        assert.ok(control.perS <= before * 1.08, `${before} became ${control.perS}`);
      }),
    );
  });
});

describe('one key', () => {
  test('without a rate to begin with there is none before the first refusal; with one it doubles while it is used', () => {
    const free = new RateControl(DEFAULTS, () => FREE, 0);
    for (let now = 0; now < 100_000; now += 1000) free.answered(500, 500, now, now);
    assert.equal(free.limit().perS, Number.POSITIVE_INFINITY);
    const starting = new RateControl(DEFAULTS, () => ({ ...FREE, startPerS: 10, ceilingPerS: 50 }), 0);
    const rates = [];
    for (let now = 1000; now <= 40_000; now += 1000) {
      starting.answered(100, 100, now, now);
      starting.tick(now);
      if (now % 10_000 === 0) rates.push(Math.round(starting.perS));
    }
    assert.deepEqual(rates, [20, 40, 50, 50]);
  });

  test('the pause after a cut grows by half with each probe refused, and ends with one that is taken', () => {
    const control = new RateControl(DEFAULTS, () => FREE, 0);
    control.answered(100, 100, 0, 1000);
    control.refused(1000, 1000);
    let now = control.limit().closedUntilMs;
    const waits = [];
    for (let i = 0; i < 16; i++) {
      control.refused(now, now);
      waits.push(Math.round(control.limit().closedUntilMs - now));
      now = control.limit().closedUntilMs;
    }
    assert.deepEqual(waits.slice(0, 3), [1500, 2250, 3375]);
    assert.equal(waits.at(-1), 300_000);
    assert.equal(control.answered(1, 1, now - 1, now), false);
    assert.equal(control.answered(1, 1, now, now + 50), true);
    assert.equal(control.limit().closedUntilMs, 0);
    assert.equal(control.plateauMs, Math.min(14_400_000, (now + 50 - 1000) / 0.05));
  });

  test('a block closes for half an hour, twice as long when it comes again, and leaves the rate as it was', () => {
    const control = new RateControl(DEFAULTS, () => FREE, 0);
    assert.equal(control.blocked(0, 100), true);
    assert.equal(control.limit().closedUntilMs, 1_800_100);
    assert.equal(control.blocked(50, 200), false);
    assert.equal(control.blocked(1_800_100, 1_800_200), true);
    assert.equal(control.limit().closedUntilMs, 1_800_200 + 3_600_000);
    assert.equal(control.answered(1, 1, 5_400_200, 5_400_300), true);
    assert.deepEqual(control.limit(), { phase: 'free', perS: Number.POSITIVE_INFINITY, closedUntilMs: 0 });
    assert.equal(control.isFree, false);
    control.tick(5_400_300 + 3_600_001);
    assert.equal(control.isFree, true);
  });

  test('a block that comes while a probe is awaited lasts as long as any', () => {
    const control = new RateControl(DEFAULTS, () => FREE, 0);
    assert.equal(control.refused(0, 100), true);
    assert.equal(control.blocked(100, 100), true);
    assert.equal(control.limit().closedUntilMs, 100 + 1_800_000);
  });

  test('what was learned is the same after a restart, whatever the clock says', () => {
    fc.assert(
      fc.property(events, fc.integer({ min: -1e9, max: 1e9 }), (all, aheadMs) => {
        const control = new RateControl(DEFAULTS, () => FREE, 0);
        let now = 0;
        for (const { stepMs, kind, agoMs, messages } of all) {
          now += Math.abs(stepMs);
          if (kind === 'refused') control.refused(now - agoMs, now);
          else if (kind === 'blocked') control.blocked(now - agoMs, now);
          else control.answered(messages, messages, now - agoMs, now);
        }
        const other = new RateControl(DEFAULTS, () => FREE, 0);
        other.restore(JSON.parse(JSON.stringify(control.save(aheadMs))), aheadMs, now);
        assert.deepEqual(other.limit(), control.limit());
        assert.deepEqual(other.save(aheadMs), control.save(aheadMs));
      }),
    );
  });
});

test('the sum of a run is what its seconds say', () => {
  assert.deepEqual(
    sum(
      [
        { accepted: 1, refused: 2 },
        { accepted: 3, refused: 4 },
      ],
      0,
      2,
    ),
    { accepted: 4, refused: 6 },
  );
});
