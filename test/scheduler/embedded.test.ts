import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import { DueHeap } from '../../src/scheduler/due-heap.ts';
import { EmbeddedScheduler } from '../../src/scheduler/embedded.ts';

/** A queue database of one list per destination, a clock moved by hand, and a delivery that only notes. */
function world(
  options: {
    maxInFlight?: number;
    enabled?: boolean;
    chunkCount?: number;
    claimRows?: number;
    minClaimRows?: number;
    isShared?: boolean;
    outlook?: (site: string, nowMs: number) => { messages: number; atMs: number };
  } = {},
) {
  let nowMs = 1000;
  let steadyMs = 1000;
  let timers: { atMs: number; fire: () => void }[] = [];
  const rows = new Map<string, number[]>();
  const delivered: Job[] = [];
  const errors: unknown[] = [];
  /** Destinations that a rule of an operator holds: a claim brings only what is too old, and here nothing is. */
  const held = new Set<string>();
  const claims: string[] = [];
  const { chunkCount = 1000 } = options;
  const state = { failClaims: 0, short: false, serial: 0, freeChunks: chunkCount };
  // Between two readings of a clock a thread may stand still for as long as it likes.
  let pauses: number[] = [];
  let readings = 0;
  const tick = (clock: () => number): number => {
    assert.ok(++readings < 5_000_000, 'it looks at the clock without end');
    const ms = pauses.shift() ?? 0;
    nowMs += ms;
    steadyMs += ms;
    return clock();
  };
  const scheduler = new EmbeddedScheduler(
    {
      held: (destination) => held.has(destination),
      outlook: (site) => options.outlook?.(site, steadyMs) ?? { messages: Infinity, atMs: 0 },
      async claim(destination, limit) {
        claims.push(destination);
        if (held.has(destination))
          return { jobs: [], nextDueMs: rows.get(destination)?.[0] ?? null, short: false };
        if (state.failClaims > 0) {
          state.failClaims--;
          throw new Error('database gone');
        }
        const waiting = (rows.get(destination) ?? []).sort((a, b) => a - b);
        const due = waiting.filter((at) => at <= nowMs).slice(0, state.short ? 1 : limit);
        rows.set(destination, waiting.slice(due.length));
        const jobs = due.map(() => job(destination, String(state.serial++)));
        return { jobs, nextDueMs: rows.get(destination)?.[0] ?? null, short: state.short };
      },
      deliver: (jobs) => delivered.push(...jobs),
      contentBytes: chunkCount * 65_536,
      freeContentBytes: () => state.freeChunks * 65_536,
      now: () => tick(() => nowMs),
      steady: () => tick(() => steadyMs),
      setTimer(atMs, fire) {
        const timer = { atMs, fire };
        timers.push(timer);
        return {
          cancel() {
            timers = timers.filter((t) => t !== timer);
          },
        };
      },
    },
    {
      maxInFlight: options.maxInFlight ?? 100,
      enabled: options.enabled ?? true,
      claimRows: options.claimRows ?? 200,
      minClaimRows: options.minClaimRows ?? 1,
      isShared: options.isShared ?? false,
      onClaimError: (_, error) => errors.push(error),
    },
  );
  const settle = async () => {
    for (let i = 0; i < 50; i++) await Promise.resolve();
  };
  return {
    scheduler,
    delivered,
    errors,
    held,
    claims,
    state,
    rows,
    settle,
    add(destination: string, ...dueMs: number[]) {
      rows.set(destination, [...(rows.get(destination) ?? []), ...dueMs]);
      for (const at of dueMs) scheduler.waiting(destination, 1, at);
    },
    steady: () => steadyMs,
    /** The clock is set; no time passes. */
    setClock(ms: number) {
      nowMs += ms;
    },
    /** The coming readings of either clock are preceded by so much time each. */
    pause(...ms: number[]) {
      pauses = ms;
    },
    async advance(ms: number) {
      readings = 0;
      nowMs += ms;
      steadyMs += ms;
      for (;;) {
        const due = timers.filter((t) => t.atMs <= steadyMs);
        if (due.length === 0) break;
        timers = timers.filter((t) => t.atMs > steadyMs);
        for (const timer of due) timer.fire();
        await settle();
      }
      await settle();
    },
    now: () => nowMs,
  };
}

const job = (destination: string, queueId: string): Job => ({
  queueId,
  destination,
  attempts: 0,
  fence: 1,
  reversePath: '',
  body: '7BIT',
  smtpUtf8: false,
  trace: '',
  content: 0,
  sizeBytes: 1,
  receivedAtMs: 0,
  delayNotified: false,
  recipients: [],
});
const result = (destination: string): AttemptResult => ({
  queueId: 'q',
  destination,
  fence: 1,
  attempts: 1,
  reversePath: '',
  receivedAtMs: 0,
  sizeBytes: 1,
  groups: [],
  recipients: [],
  times: { queueMs: 0, connectMs: 0, transferMs: 0 },
  dsns: [],
  delayNotified: false,
});

test('due rows are claimed and delivered, later ones at their time', async () => {
  const w = world();
  w.scheduler.start();
  w.add('a.test', 1000, 1000, 5000);
  await w.settle();
  assert.equal(w.delivered.length, 2);
  await w.advance(3999);
  assert.equal(w.delivered.length, 2);
  await w.advance(1);
  assert.equal(w.delivered.length, 3);
});

test('one destination never holds more places than are free for the others', async () => {
  const w = world({ maxInFlight: 100 });
  w.scheduler.start();
  let taken = 0;
  while (w.scheduler.reserve('slow.test', 1)) taken++;
  assert.equal(taken, 50);
  assert.equal(w.scheduler.reserve('other.test', 1), true);
});

test('with few places the backlog is claimed too while new mail keeps coming', async () => {
  const w = world({ maxInFlight: 40, claimRows: 500, minClaimRows: 250 });
  w.scheduler.start();
  while (w.scheduler.reserve('a.test', 1));
  w.add('a.test', ...Array.from({ length: 100 }, () => 1000));
  let handed = w.scheduler.stats().inFlight;
  let settled = 0;
  for (let round = 0; round < 1000 && w.delivered.length < 100; round++) {
    // One is settled, and new mail is there at once.
    if (settled < handed + w.delivered.length) {
      settled++;
      w.scheduler.settled(result('a.test'), null);
    }
    if (w.scheduler.reserve('a.test', 1)) handed++;
    await w.settle();
  }
  assert.equal(w.delivered.length, 100);
});

test('a backlog waits for places and goes on as they are freed', async () => {
  const w = world({ maxInFlight: 10 });
  w.scheduler.start();
  w.add('a.test', ...Array.from({ length: 40 }, () => 1000));
  await w.settle();
  let settled = 0;
  for (let round = 0; round < 100 && w.delivered.length < 40; round++) {
    while (settled < w.delivered.length) {
      w.scheduler.settled(result('a.test'), null);
      settled++;
    }
    await w.settle();
  }
  assert.equal(w.delivered.length, 40);
  while (settled++ < 40) w.scheduler.settled(result('a.test'), null);
  assert.deepEqual(w.scheduler.stats(), {
    destinations: 0,
    waitingRows: 0,
    inFlight: 0,
    suspended: [],
    suspendedDestinations: 0,
  });
});

test('a suspended destination gets nothing until its time, others go on', async () => {
  const w = world();
  w.scheduler.start();
  w.scheduler.suspend('down.test', 61_000);
  w.add('down.test', 1000);
  w.add('up.test', 1000);
  await w.settle();
  assert.deepEqual(
    w.delivered.map((j) => j.destination),
    ['up.test'],
  );
  assert.equal(w.scheduler.reserve('down.test', 1), false);
  await w.advance(60_000);
  assert.deepEqual(
    w.delivered.map((j) => j.destination),
    ['up.test', 'down.test'],
  );
});

test('ending a suspension early releases the rows at once', async () => {
  const w = world();
  w.scheduler.start();
  w.scheduler.suspend('down.test', 1_000_000);
  w.add('down.test', 1000);
  await w.settle();
  assert.equal(w.delivered.length, 0);
  w.scheduler.suspend('down.test', 0);
  await w.settle();
  assert.equal(w.delivered.length, 1);
});

test('a failing database pauses claims and loses no row', async () => {
  const w = world();
  w.state.failClaims = 2;
  w.scheduler.start();
  w.add('a.test', 1000);
  await w.settle();
  assert.equal(w.errors.length, 1);
  await w.advance(200);
  assert.equal(w.errors.length, 2);
  await w.advance(200);
  assert.equal(w.delivered.length, 1);
});

test('a short arena pauses claims and goes on', async () => {
  const w = world();
  w.state.short = true;
  w.scheduler.start();
  w.add('a.test', 1000, 1000, 1000);
  await w.settle();
  assert.equal(w.delivered.length, 1);
  await w.advance(200);
  await w.advance(200);
  assert.equal(w.delivered.length, 3);
});

test('with delivery disabled nothing is reserved or claimed', async () => {
  const w = world({ enabled: false });
  w.scheduler.start();
  w.add('a.test', 1000);
  await w.advance(100_000);
  assert.equal(w.scheduler.reserve('a.test', 1), false);
  assert.equal(w.delivered.length, 0);
  // What an operator ends is not sent.
  w.add('fail:a.test', 1000);
  await w.advance(100);
  assert.deepEqual(
    w.delivered.map(({ destination }) => destination),
    ['fail:a.test'],
  );
});

test('rows deferred come back at their retry time', async () => {
  const w = world();
  w.scheduler.start();
  assert.equal(w.scheduler.reserve('a.test', 1), true);
  w.scheduler.handOff(job('a.test', 'x'));
  w.rows.set('a.test', [9000]);
  w.scheduler.settled(result('a.test'), 9000);
  await w.advance(7999);
  assert.equal(w.delivered.length, 1);
  await w.advance(1);
  assert.equal(w.delivered.length, 2);
});

test('content of slow destinations leaves memory for new mail and for other destinations', async () => {
  const w = world({ maxInFlight: 2000, chunkCount: 2000 });
  w.scheduler.start();
  const fill = (destination: string, chunks: number): number => {
    let taken = 0;
    for (; w.scheduler.reserve(destination, 1); taken++) w.state.freeChunks -= chunks;
    return taken;
  };
  // Four chunks each: the places would take all of the memory.
  const first = fill('slow0.test', 4);
  assert.ok(first > 150 && first < 250, `${first} of one destination`);
  for (let i = 1; i < 4; i++) fill(`slow${i}.test`, 4);
  assert.ok(w.state.freeChunks >= 250, `${w.state.freeChunks} chunks free`);
  assert.ok(fill('quick.test', 4) > 5, 'another destination finds room');
});

test('rows that wait for memory go on when there is some, and delivery always has a few places', async () => {
  const w = world({ maxInFlight: 200, chunkCount: 1000 });
  w.state.freeChunks = 10;
  w.scheduler.start();
  w.add('a.test', ...Array.from({ length: 40 }, () => 1000));
  await w.settle();
  assert.equal(w.delivered.length, 16);
  w.state.freeChunks = 900;
  await w.advance(200);
  assert.equal(w.delivered.length, 40);
});

test('a destination forgotten and met again keeps its places when its old time comes', async () => {
  const w = world();
  w.scheduler.start();
  // Suspended for a minute, resumed at once, nothing to do: forgotten, but its old time is still to come.
  w.scheduler.suspend('flap.test', 61_000);
  w.scheduler.suspend('flap.test', 0);
  assert.equal(w.scheduler.stats().destinations, 0);
  assert.equal(w.scheduler.reserve('flap.test', 1), true);
  w.scheduler.handOff(job('flap.test', 'x'));
  await w.advance(60_000);
  assert.equal(w.scheduler.stats().destinations, 1);
  w.scheduler.settled(result('flap.test'), null);
  assert.deepEqual(w.scheduler.stats(), {
    destinations: 0,
    waitingRows: 0,
    inFlight: 0,
    suspended: [],
    suspendedDestinations: 0,
  });
});

test('a hundred thousand destinations that are due cost little while no place is free', async () => {
  const w = world({ maxInFlight: 10 });
  w.scheduler.start();
  let taken = 0;
  for (let i = 0; taken < 10; i++) if (w.scheduler.reserve(`slow${i}.test`, 1)) taken++;
  const backlog = Array.from({ length: 100_000 }, (_, i) => ({
    destination: `d${i}.test`,
    rows: 1,
    nextDueMs: 1000,
  }));
  const started = performance.now();
  w.scheduler.refresh(backlog);
  const tookMs = performance.now() - started;
  assert.ok(tookMs < 5000, `${tookMs} ms`);
  w.rows.set('d0.test', [1000]);
  w.scheduler.settled(result('slow0.test'), null);
  await w.settle();
  assert.equal(w.delivered.length, 1);
});

test('a million waiting rows of a thousand destinations rebuild to a thousand places', async () => {
  const w = world();
  w.scheduler.rebuild(
    Array.from({ length: 1000 }, (_, i) => ({ destination: `d${i}.test`, rows: 1000, nextDueMs: 1e9 + i })),
  );
  w.scheduler.start();
  assert.equal(w.scheduler.stats().destinations, 1000);
  assert.equal(w.scheduler.stats().waitingRows, 1_000_000);
});

test('the heap gives pairs back in order of time', () => {
  const heap = new DueHeap<number>();
  const times = Array.from({ length: 500 }, (_, i) => (i * 7919) % 503);
  for (const at of times) heap.push(at, at);
  const popped: number[] = [];
  for (let key = heap.pop(); key !== undefined; key = heap.pop()) popped.push(key);
  assert.deepEqual(
    popped,
    [...times].sort((a, b) => a - b),
  );
});

test('due rows that others put there are found and claimed, once', async () => {
  const w = world({ isShared: true });
  w.scheduler.start();
  w.rows.set('one.test', [900, 900]);
  w.scheduler.discover([{ destination: 'one.test', rows: 1, nextDueMs: 900 }]);
  await w.settle();
  assert.equal(w.delivered.length, 2);
  w.scheduler.discover([{ destination: 'one.test', rows: 1, nextDueMs: 900 }]);
  await w.settle();
  assert.equal(w.delivered.length, 2, 'what is gone is not there');
  assert.equal(w.scheduler.stats().waitingRows, 0);
});

test('rows that others put there and an operator took away leave no destination behind', () => {
  const w = world({ isShared: true });
  w.scheduler.changed([{ destination: 'one.test', rows: -2 }]);
  assert.deepEqual([w.scheduler.stats().destinations, w.scheduler.stats().waitingRows], [0, 0]);
});

test('a claim that would bring few rows waits for more room', async () => {
  const w = world({ maxInFlight: 20, claimRows: 8, minClaimRows: 4 });
  w.add('one.test', ...new Array(30).fill(900));
  w.scheduler.start();
  await w.settle();
  assert.equal(w.delivered.length, 12);
  for (let i = 0; i < 3; i++) w.scheduler.settled(result('one.test'), null);
  await w.settle();
  assert.equal(w.delivered.length, 12, 'room for two is not worth a claim');
  w.scheduler.settled(result('one.test'), null);
  await w.settle();
  assert.equal(w.delivered.length, 16);
});

test('it does not wait for long: what is being sent may be there for minutes', async () => {
  const w = world({ maxInFlight: 20, claimRows: 8, minClaimRows: 4 });
  w.add('one.test', ...new Array(30).fill(900));
  w.scheduler.start();
  await w.settle();
  for (let i = 0; i < 3; i++) w.scheduler.settled(result('one.test'), null);
  await w.advance(250);
  assert.equal(w.delivered.length, 12, 'room for two is not worth a claim yet');
  for (let i = 0; i < 3; i++) await w.advance(250);
  assert.ok(w.delivered.length > 12, 'better few than none');
});

for (const set of [-86_400_000, 86_400_000]) {
  const how = set < 0 ? 'back' : 'forward';
  test(`a clock set ${how} by a day neither prolongs nor cuts suspensions and pauses`, async () => {
    const w = world();
    w.scheduler.start();
    w.scheduler.suspend('a.test', w.steady() + 60_000);
    w.add('a.test', w.now());
    w.setClock(set);
    w.add('b.test', w.now());
    await w.settle();
    w.add('a.test', w.now());
    assert.deepEqual(
      w.scheduler.stats().suspended.map(({ untilMs }) => untilMs - w.now()),
      [60_000],
      'shown by the clock of now',
    );
    await w.advance(59_000);
    assert.deepEqual(
      w.delivered.map(({ destination }) => destination),
      ['b.test'],
    );
    await w.advance(1000);
    assert.ok(w.delivered.some(({ destination }) => destination === 'a.test'));
    // After a claim that failed the next follows soon.
    w.state.failClaims = 1;
    w.add('c.test', w.now());
    await w.settle();
    w.setClock(set);
    w.add('d.test', w.now());
    await w.advance(1000);
    assert.ok(w.delivered.some(({ destination }) => destination === 'd.test'));
  });
}

test('a thread that stands still between two looks at the clock goes on where it was', async () => {
  // Whichever of the readings the pause comes before, and whether a row becomes due in it or behind it.
  for (const pauseMs of [1, 10, 400])
    for (let before = 0; before < 8; before++)
      for (const dueInMs of [1, 5, 9, 300, 401]) {
        const w = world();
        w.scheduler.start();
        w.add('a.test', w.now() + dueInMs);
        w.add('b.test', w.now() + 1);
        w.pause(...new Array(before).fill(0), pauseMs);
        await w.advance(1);
        await w.advance(1000);
        assert.equal(w.delivered.length, 2, `${pauseMs} ms before reading ${before}, due in ${dueInMs} ms`);
      }
});

test('rows are due by the clock that was set forward, without a long wait for a timer', async () => {
  const w = world();
  w.scheduler.start();
  w.add('a.test', w.now() + 14_400_000);
  w.setClock(14_400_000);
  await w.advance(30_000);
  assert.deepEqual(
    w.delivered.map(({ destination }) => destination),
    ['a.test'],
  );
});

test('a destination that a rule holds is neither claimed nor handed over; then all goes at once', async () => {
  const w = world();
  w.held.add('a.test');
  w.scheduler.start();
  w.add('a.test', w.now(), w.now());
  w.add('b.test', w.now());
  await w.advance(1000);
  assert.equal(w.scheduler.reserve('a.test', 1), false);
  assert.equal(w.scheduler.reserve('b.test', 1), true);
  assert.deepEqual(w.claims, ['b.test']);
  // A retry that an operator asks for lifts a suspension by failing connections, and no rule.
  w.scheduler.suspend('a.test', 0);
  await w.settle();
  assert.deepEqual(w.claims, ['b.test']);
  w.held.clear();
  w.scheduler.rulesChanged();
  await w.settle();
  assert.equal(w.delivered.filter(({ destination }) => destination === 'a.test').length, 2);
});

test('of a held destination what is too old is looked for, every five minutes and no more', async () => {
  const w = world();
  w.held.add('a.test');
  w.scheduler.start();
  w.add('a.test', w.now());
  for (let i = 0; i < 60; i++) {
    await w.advance(20_000);
    w.scheduler.waiting('a.test', 1, w.now());
  }
  assert.ok(w.claims.length >= 3 && w.claims.length <= 4, `${w.claims.length} looks in 20 minutes`);
  assert.deepEqual(w.delivered, []);
});

test('what keeps a destination is told: failing connections, and places that are used up', () => {
  const w = world({ maxInFlight: 2 });
  w.scheduler.start();
  w.scheduler.suspend('a.test', w.steady() + 5000, 'no route');
  assert.deepEqual(w.scheduler.standing('a.test'), {
    destination: 'a.test',
    sending: 0,
    suspendedUntilMs: w.now() + 5000,
    suspendedSinceMs: w.now(),
    suspendedReason: 'no route',
    limit: null,
    site: null,
  });
  assert.equal(w.scheduler.reserve('b.test', 1), true);
  assert.equal(w.scheduler.standing('b.test').limit, 'places');
});

test('the domains of one slow site take half of the places together, and others find room', async () => {
  const w = world({ maxInFlight: 100, claimRows: 10 });
  w.scheduler.start();
  for (let i = 0; i < 50; i++) w.scheduler.belongs(`d${i}.test`, 'slow');
  for (let i = 0; i < 50; i++) for (let n = 0; n < 20; n++) w.add(`d${i}.test`, w.now());
  await w.settle();
  const ofSite = w.delivered.length;
  assert.ok(ofSite >= 50 && ofSite <= 51, `${ofSite}`);
  w.add('other.test', w.now());
  await w.settle();
  assert.equal(w.delivered.length, ofSite + 1);
  assert.equal(w.scheduler.reserve('d3.test', 1), false);
  assert.equal(w.scheduler.reserve('free.test', 1), true);
  w.scheduler.cancel('free.test', 1);
  // A domain that moves to another host takes its rows along.
  const [first] = w.delivered as [Job];
  w.scheduler.belongs(first.destination, 'quick');
  await w.settle();
  w.scheduler.settled(result(first.destination), null);
  assert.ok(w.scheduler.stats().inFlight > 50);
});

test('a domain of a site that is closed for long is tried now and then, and at a flush: it may have moved', async () => {
  const w = world({
    outlook: (site) =>
      site === 'closed'
        ? { messages: 0, atMs: 100_000_000 }
        : { messages: Number.POSITIVE_INFINITY, atMs: 0 },
  });
  w.scheduler.start();
  for (const name of ['a.test', 'b.test']) w.scheduler.belongs(name, 'closed');
  for (const name of ['a.test', 'b.test']) for (let n = 0; n < 5; n++) w.add(name, w.now());
  const sent = () => w.delivered.map(({ destination }) => destination).sort();
  for (let i = 0; i < 10; i++) await w.advance(80_000);
  assert.deepEqual(sent(), []);
  for (let i = 0; i < 4; i++) await w.advance(80_000);
  assert.deepEqual(sent(), ['a.test', 'b.test'], 'one of each');
  // Delivery finds the same for the one, and nothing yet for the other.
  w.scheduler.belongs('a.test', 'closed');
  w.scheduler.settled(result('a.test'), null);
  for (let i = 0; i < 10; i++) await w.advance(80_000);
  assert.equal(w.delivered.length, 2);
  w.scheduler.suspend('a.test', 0);
  await w.settle();
  assert.deepEqual(sent(), ['a.test', 'a.test', 'b.test']);
  w.scheduler.suspend('a.test', 0);
  await w.advance(2000);
  assert.equal(w.delivered.length, 3, 'not while one is on its way');
  w.scheduler.belongs('b.test', 'open');
  w.scheduler.settled(result('b.test'), null);
  await w.settle();
  assert.equal(sent().filter((name) => name === 'b.test').length, 5);
  assert.equal(sent().filter((name) => name === 'a.test').length, 2);
});

test('no more is handed over than the limits of its site let through soon, from however many domains', async () => {
  const w = world({
    outlook: (site, nowMs) => {
      assert.equal(site, 'limited');
      return nowMs < 61_000 ? { messages: 3, atMs: 0 } : { messages: 0, atMs: 121_000 };
    },
  });
  w.scheduler.start();
  for (const name of ['a.test', 'b.test']) w.scheduler.belongs(name, 'limited');
  for (const name of ['a.test', 'b.test']) for (let n = 0; n < 300; n++) w.add(name, w.now());
  await w.settle();
  assert.equal(w.delivered.length, 3);
  assert.equal(w.scheduler.reserve('a.test', 1), false, 'new mail waits in the queue');
  for (let i = 0; i < 12; i++) await w.advance(5000);
  // Three in each second in which it was looked.
  assert.ok(w.delivered.length > 30 && w.delivered.length <= 183, `${w.delivered.length}`);
  const before = w.delivered.length;
  for (let i = 0; i < 11; i++) await w.advance(5000);
  assert.equal(w.delivered.length, before);
  const { limit, site } = w.scheduler.standing('a.test');
  assert.deepEqual({ limit, site }, { limit: 'site', site: 'limited' });
});
