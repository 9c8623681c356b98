import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { SendingDays, windowOf } from '../../../src/shaping/warmup/sending-days.ts';
import {
  NEW_WARM_UP,
  WarmUp,
  type WarmUpPlan,
  type WarmUpRecord,
} from '../../../src/shaping/warmup/warm-up.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const PLAN = [50, 100, 250, 500, 1000];
const START = Date.parse('2027-01-04T00:00:00Z');

const plan = (changes: Partial<WarmUpPlan> = {}): WarmUpPlan => ({
  source: 'a2',
  provider: 'google',
  messagesPerDay: PLAN,
  startDate: '',
  days: new SendingDays('UTC', '08:00-20:00'),
  sharers: 1,
  gates: { minDeliveries: 200, maxBounceRatio: 0.03, maxComplaintRatio: 0.001, maxDeferralRatio: 0.05 },
  ...changes,
});

/** A day of sending, with what came of it. */
function day(
  warmUp: WarmUp,
  number: number,
  sent: number,
  came: { bounced?: number; complained?: number; deferred?: number } = {},
) {
  const step = warmUp.tick(START + number * DAY + 8 * HOUR);
  const granted = warmUp.reserve(sent);
  warmUp.came('delivered', granted - (came.bounced ?? 0));
  for (const kind of ['bounced', 'complained', 'deferred'] as const) warmUp.came(kind, came[kind] ?? 0);
  return { step, granted };
}

/** What each day came to, and the plan of the day after the last. */
function run(warmUp: WarmUp, days: Parameters<typeof day>[3][], sent = 1e9): (string | null)[] {
  const steps = days.map((came, i) => day(warmUp, i, sent, came).step);
  steps.push(warmUp.tick(START + days.length * DAY + 8 * HOUR));
  return steps.slice(1);
}

describe('a warm-up', () => {
  test('who goes first has the first half of each window, also of one that summer time shortens or lengthens', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe'),
        fc.constantFrom('08:00-20:00', '22:00-06:00', '00:00-24:00', '01:30-03:30'),
        fc.integer({ min: 0, max: 400 * 24 }),
        (zone, window, hours) => {
          const days = new SendingDays(zone, window);
          const warmUp = new WarmUp(plan({ days, messagesPerDay: [1e9] }));
          const nowMs = START + hours * HOUR;
          const { fromMs, toMs } = days.at(nowMs);
          warmUp.tick(Math.max(nowMs, fromMs));
          const { turns } = warmUp.limit(Math.max(nowMs, fromMs), 0);
          assert.deepEqual(turns, { fromMs, toMs: fromMs + (toMs - fromMs) / 2 });
          // What is left of the window is enough for the plan: at most twice the even pace.
          const late = warmUp.limit(fromMs + (toMs - fromMs) / 2, 0);
          assert.ok((late.messagesPerS * (toMs - fromMs)) / 2000 >= 0.999e9);
        },
      ),
    );
  });

  test('of several processes each has all complaints, and its part of the messages', () => {
    const of = (complained: number): (string | null)[] =>
      run(new WarmUp(plan({ sharers: 4, messagesPerDay: [1000, 2000] })), [{ complained }]);
    // 0.1 % of the 4,000 of all are 4.
    assert.deepEqual(of(3), ['advance']);
    assert.deepEqual(of(4), ['repeat']);
    assert.deepEqual(of(13), ['back']);
  });

  test('goes through its plan day by day, never above it, and is done', () => {
    const warmUp = new WarmUp(plan());
    assert.equal(warmUp.state, 'waiting');
    const granted = PLAN.map((_, i) => day(warmUp, i, 1e9).granted);
    assert.deepEqual(granted, PLAN);
    assert.equal(warmUp.tick(START + 5 * DAY + 8 * HOUR), 'advance');
    assert.equal(warmUp.state, 'done');
    assert.deepEqual(warmUp.limit(START + 5 * DAY), {
      state: 'done',
      messagesPerS: Number.POSITIVE_INFINITY,
      closedUntilMs: 0,
    });
    assert.equal(warmUp.reserve(1e6), 1e6);
  });

  test('does not advance by a day with less than half of its plan', () => {
    const warmUp = new WarmUp(plan());
    day(warmUp, 0, 24);
    assert.equal(day(warmUp, 1, 25).step, 'too_few');
    assert.equal(day(warmUp, 2, 1).step, 'advance');
  });

  test('repeats a day above a gate, goes back above more, once there are enough deliveries to say so', () => {
    const at = (step: number, came: Parameters<typeof day>[3]) => {
      const warmUp = new WarmUp(plan(), { ...NEW_WARM_UP, step });
      return [...run(warmUp, [came]), warmUp.record.step];
    };
    assert.deepEqual(at(3, { bounced: 14 }), ['advance', 4]);
    assert.deepEqual(at(3, { bounced: 15 }), ['repeat', 3]);
    assert.deepEqual(at(3, { bounced: 25 }), ['repeat', 3]);
    assert.deepEqual(at(3, { bounced: 26 }), ['back', 2]);
    assert.deepEqual(at(4, { complained: 1 }), ['repeat', 4]);
    assert.deepEqual(at(4, { complained: 3 }), ['repeat', 4]);
    assert.deepEqual(at(4, { complained: 4 }), ['back', 3]);
    assert.deepEqual(at(3, { deferred: 26 }), ['advance', 4]);
    assert.deepEqual(at(3, { deferred: 27 }), ['repeat', 3]);
    // 50 deliveries say little: six bounces are what 200 may have.
    assert.deepEqual(at(0, { bounced: 5 }), ['advance', 1]);
    assert.deepEqual(at(0, { bounced: 6 }), ['repeat', 0]);
    assert.deepEqual(at(0, { bounced: 11 }), ['back', 0]);
  });

  test('what came of few deliveries counts on, until there are enough', () => {
    const warmUp = new WarmUp(plan());
    assert.deepEqual(run(warmUp, [{ bounced: 3 }, { bounced: 3 }]), ['advance', 'repeat']);
    assert.equal(warmUp.record.step, 1);
  });

  test('a reputation block pauses it for the sending day, and the next begins one step lower; an operator’s pause stays', () => {
    const warmUp = new WarmUp(plan(), { ...NEW_WARM_UP, step: 2 });
    day(warmUp, 0, 100);
    warmUp.pause('421 4.7.0 low reputation', true);
    warmUp.pause('421 4.7.0 again', true);
    const now = START + 12 * HOUR;
    assert.deepEqual(
      [warmUp.state, warmUp.limit(now).closedUntilMs, warmUp.record.step],
      ['paused', START + 20 * HOUR, 1],
    );
    assert.equal(warmUp.tick(START + DAY + 7 * HOUR), null);
    assert.equal(warmUp.tick(START + DAY + 8 * HOUR), 'repeat');
    assert.deepEqual([warmUp.state, warmUp.planned], ['running', 100]);
    warmUp.pause('by hand', false);
    warmUp.tick(START + 2 * DAY + 8 * HOUR);
    assert.equal(warmUp.state, 'paused');
    warmUp.set(3);
    assert.deepEqual([warmUp.state, warmUp.planned, warmUp.record.sent], ['running', 500, 0]);
  });

  test('after 30 silent days it starts again with a quarter of the volume, also when it was done', () => {
    for (const [step, quarter] of [
      [3, 100],
      [5, 250],
      [1, 50],
      [0, 50],
    ] as const) {
      const warmUp = new WarmUp(plan(), { ...NEW_WARM_UP, step });
      day(warmUp, 0, step === 5 ? 10 : 1);
      for (let i = 1; i <= 30; i++) warmUp.tick(START + i * DAY + 8 * HOUR);
      assert.equal(warmUp.tick(START + 31 * DAY + 8 * HOUR), 'silent');
      assert.equal(warmUp.planned, quarter);
    }
  });

  test('is closed before its first day, outside of its window, and when the day’s messages are gone', () => {
    const warmUp = new WarmUp(plan({ startDate: '2027-01-06' }));
    const closed = (atMs: number): number => {
      warmUp.tick(atMs);
      return (warmUp.limit(atMs).closedUntilMs - START) / HOUR;
    };
    assert.equal(closed(START), 56);
    assert.equal(closed(START + 55 * HOUR), 56);
    assert.equal(warmUp.reserve(0), 0);
    assert.equal(warmUp.limit(START + 56 * HOUR).closedUntilMs, 0);
    warmUp.tick(START + 56 * HOUR);
    warmUp.reserve(50);
    assert.equal(closed(START + 57 * HOUR), 80);
    assert.equal(closed(START + 70 * HOUR), 80);
  });

  test('spreads what is left over the window, at most twice as fast as all of it', () => {
    const warmUp = new WarmUp(plan());
    warmUp.tick(START + 8 * HOUR);
    const even = 50 / (12 * 3600);
    assert.equal(warmUp.limit(START + 8 * HOUR).messagesPerS, even);
    assert.equal(warmUp.limit(START + 11 * HOUR).messagesPerS, (even * 12) / 9);
    assert.equal(warmUp.limit(START + 19.9 * HOUR).messagesPerS, even * 2);
    warmUp.reserve(25);
    assert.equal(warmUp.limit(START + 14 * HOUR).messagesPerS, even);
  });
});

test('whatever happens, in any zone and over changes of summer time, no sending day gets more than its plan', () => {
  const actions = fc.array(
    fc.record({
      stepMs: fc.oneof(
        { weight: 6, arbitrary: fc.nat(6 * HOUR) },
        fc.integer({ min: -3 * DAY, max: 40 * DAY }),
      ),
      kind: fc.constantFrom('send', 'bounced', 'complained', 'deferred', 'restart', 'pause', 'tick'),
      count: fc.nat(2000),
    }),
    { maxLength: 80 },
  );
  const zones = fc.constantFrom('Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'UTC');
  const windows = fc.constantFrom('08:00-20:00', '00:00-24:00', '22:00-06:00', '01:30-02:45', '02:15-02:45');
  fc.assert(
    fc.property(zones, windows, actions, (zone, window, all) => {
      const days = new SendingDays(zone, window);
      let warmUp = new WarmUp(plan({ days }));
      const sent = new Map<string, number>();
      const most = new Map<string, number>();
      let now = START + 80 * DAY;
      for (const { stepMs, kind, count } of all) {
        now += stepMs;
        warmUp.tick(now);
        if (kind === 'restart')
          warmUp = new WarmUp(plan({ days }), JSON.parse(JSON.stringify(warmUp.record)) as WarmUpRecord);
        else if (kind === 'pause') warmUp.pause('block', true);
        else if (kind !== 'send' && kind !== 'tick') warmUp.came(kind, count);
        const { closedUntilMs, messagesPerS, state } = warmUp.limit(now);
        assert.ok(messagesPerS >= 0);
        if (closedUntilMs > 0)
          assert.ok(closedUntilMs > now && closedUntilMs <= now + 5 * DAY, `${closedUntilMs - now}`);
        if (kind !== 'send' || closedUntilMs > 0) continue;
        const { day } = warmUp.record;
        if (state !== 'done') most.set(day, Math.max(most.get(day) ?? 0, warmUp.planned));
        else most.set(day, Number.POSITIVE_INFINITY);
        sent.set(day, (sent.get(day) ?? 0) + warmUp.reserve(count));
      }
      for (const [day, count] of sent) assert.ok(count <= (most.get(day) ?? 0), `${day}: ${count}`);
    }),
  );
});

test('windows are hours from and to; a sending day over midnight is that of its beginning', () => {
  assert.deepEqual(windowOf('08:00-20:00'), [480, 1200]);
  for (const wrong of ['8-20', '08:00-08:00', '08:00-24:01', '24:00-08:00', ''])
    assert.equal(windowOf(wrong), null);
  const night = new SendingDays('Europe/Berlin', '22:00-06:00').at(Date.parse('2027-03-28T02:00:00Z'));
  assert.equal(night.day, '2027-03-27');
  assert.equal((night.toMs - night.fromMs) / HOUR, 7);
});
