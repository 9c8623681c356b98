/** Slots of limits: what they grant, and that no span of time ever has more than its limit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createLimitTable, LimitSlot, NO_CONNECTION, WHEN_FREED } from '../../src/shaping/limit-table.ts';
import { NO_PACE, paceOf, type RateName, SPANS } from '../../src/shaping/rate.ts';
import { random as seeded } from '../support/dice.ts';

const START_MS = 1_000_000;

function slotWith(
  limits: Partial<Record<RateName | 'max_connections', number>>,
  table = createLimitTable(),
): LimitSlot {
  const slot = new LimitSlot(table, 3);
  slot.clear();
  const paces = Object.fromEntries(
    Object.entries(SPANS).map(([name, span]) => [name, paceOf(limits[name as RateName] ?? 0, span)]),
  ) as Record<RateName, typeof NO_PACE>;
  slot.write({
    maxConnections: limits.max_connections ?? 0,
    messagesPerConnection: 100,
    isShare: false,
    paces,
  });
  return slot;
}

/** Asks whenever it may; returns when messages went. */
function greedy(slot: LimitSlot, untilMs: number, from = START_MS): number[] {
  const went: number[] = [];
  for (let nowMs = from; nowMs < untilMs; ) {
    const atMs = slot.takeMessage(nowMs);
    if (atMs === 0) went.push(nowMs);
    else {
      assert.ok(atMs > nowMs);
      nowMs = atMs;
    }
  }
  return went;
}

/** Most events in any span. */
function most(went: readonly number[], spanMs: number): number {
  let best = 0;
  let from = 0;
  for (let i = 0; i < went.length; i++) {
    while ((went[i] as number) - (went[from] as number) >= spanMs) from++;
    best = Math.max(best, i - from + 1);
  }
  return best;
}

for (const [name, { spanMs }] of Object.entries(SPANS).filter(([key]) => key.startsWith('messages')))
  test(`no span has more than ${name}, and nearly as many go as may`, () => {
    for (const limit of [1, 2, 7, 10, 59, 60, 100, 1000, 4321]) {
      const went = greedy(slotWith({ [name]: limit }), START_MS + 3 * spanMs);
      assert.ok(most(went, spanMs) <= limit, `${limit}: ${most(went, spanMs)}`);
      const least = name === 'messages_per_s' ? 0.7 : 0.9;
      assert.ok(went.length >= least * 3 * limit - 1, `${limit}: ${went.length}`);
    }
  });

test('any course of questions stays within the limit', () => {
  const random = seeded(20261201);
  for (let round = 0; round < 300; round++) {
    const limit = 1 + Math.floor(random() * 50);
    const slot = slotWith({ messages_per_s: limit });
    const went: number[] = [];
    let nowMs = START_MS;
    for (let i = 0; i < 400; i++) {
      nowMs += Math.floor(random() ** 3 * 300);
      if (slot.takeMessage(nowMs) === 0) went.push(nowMs);
      if (random() < 0.1 && went.pop() !== undefined) slot.giveBackMessage();
    }
    assert.ok(most(went, 1000) <= limit, `round ${round}: ${most(went, 1000)} of ${limit}`);
  }
});

test('a clock that goes back brings no burst: nothing goes until it is where it was', () => {
  const slot = slotWith({ messages_per_h: 600 });
  const went = greedy(slot, START_MS + 60_000);
  assert.ok(went.length > 10);
  assert.deepEqual(greedy(slot, START_MS, START_MS - 3_600_000), []);
  assert.ok(most([...went, ...greedy(slot, START_MS + 3_600_000, START_MS + 60_000)], 3_600_000) <= 600);
});

test('what one rate refuses, the others do not count', () => {
  const slot = slotWith({ messages_per_s: 1000, messages_per_h: 60 });
  assert.equal(slot.takeMessage(START_MS), 0);
  for (let i = 0; i < 1000; i++) assert.notEqual(slot.takeMessage(START_MS), 0);
  assert.equal(slot.refusedBy, 'messages_per_h');
  assert.deepEqual(slot.outlook(START_MS, 0), { messages: 0, atMs: START_MS + 60_000 });
  assert.equal(slot.outlook(START_MS + 60_000, 0).messages, 1);
  slot.giveBackMessage();
  assert.equal(slot.takeMessage(START_MS), 0);
  assert.equal(slot.counts.sent, 1);
});

test('since when a limit is used up is known to the moment', () => {
  const slot = slotWith({ messages_per_h: 60, max_connections: 1 });
  assert.deepEqual(slot.usage('messages_per_h', START_MS), { used: 0, sinceMs: 0, untilMs: 0 });
  assert.equal(slot.takeMessage(START_MS + 7), 0);
  assert.notEqual(slot.takeMessage(START_MS + 500), 0);
  assert.equal(slot.usage('messages_per_h', START_MS + 900).sinceMs, START_MS + 7);
  assert.equal(slot.usage('messages_per_h', START_MS + 60_007).sinceMs, 0, 'it lets one through again');
  assert.equal(slot.takeConnection(START_MS + 11), 0);
  assert.notEqual(slot.takeConnection(START_MS + 600), 0);
  assert.equal(slot.fullSinceMs, START_MS + 11);
  slot.setNextUs('messages_per_h', (START_MS + 3_600_000) * 1000);
  assert.equal(slot.usage('messages_per_h', START_MS).sinceMs, 0, 'of an earlier life nothing is known');
});

test('connections are as many as allowed, and come no faster than allowed', () => {
  const slot = slotWith({ max_connections: 2, connections_per_min: 6 });
  assert.equal(slot.takeConnection(START_MS), 0);
  assert.equal(slot.takeConnection(START_MS), START_MS + 10_000);
  assert.equal(slot.refusedBy, 'connections_per_min');
  assert.equal(slot.open, 1);
  assert.equal(slot.takeConnection(START_MS + 10_000), 0);
  assert.equal(slot.takeConnection(START_MS + 60_000), WHEN_FREED);
  assert.equal(slot.refusedBy, 'max_connections');
  slot.freeConnection();
  assert.equal(slot.takeConnection(START_MS + 60_000), 0);
  slot.write({
    maxConnections: 1,
    messagesPerConnection: 1,
    isShare: false,
    paces: {
      messages_per_s: NO_PACE,
      messages_per_h: NO_PACE,
      messages_per_day: NO_PACE,
      connections_per_min: NO_PACE,
    },
  });
  slot.freeConnection();
  assert.equal(slot.takeConnection(START_MS + 60_000), WHEN_FREED);
});

test('a closed slot lets nothing through until its time', () => {
  const slot = slotWith({});
  slot.close(START_MS + 500, 'connect_failures');
  assert.equal(slot.takeMessage(START_MS), START_MS + 500);
  assert.equal(slot.takeConnection(START_MS), START_MS + 500);
  assert.equal(slot.refusedBy, 'closed');
  assert.equal(slot.closedBy, 'connect_failures');
  assert.deepEqual(slot.outlook(START_MS, 0), { messages: 0, atMs: START_MS + 500 });
  assert.equal(slot.takeMessage(START_MS + 500), 0);
  assert.equal(slot.open, 0);
});

test('threads that take at the same time get as many as there are, and no more', async () => {
  const table = createLimitTable();
  slotWith({ messages_per_day: 24_000, max_connections: 7 }, table);
  const code = `
    import { workerData, parentPort } from 'node:worker_threads';
    const { LimitSlot } = await import(workerData.module);
    const slot = new LimitSlot(workerData.table, 3);
    let messages = 0, connections = 0;
    for (let i = 0; i < 5000; i++) {
      if (slot.takeMessage(${START_MS}) === 0) messages++;
      if (slot.takeConnection(${START_MS}) === 0) connections++;
    }
    parentPort.postMessage({ messages, connections });`;
  const module = new URL('../../src/shaping/limit-table.ts', import.meta.url).href;
  const counts = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
        workerData: { table, module },
      });
      return new Promise<{ messages: number; connections: number }>((resolve, reject) => {
        worker.once('message', resolve).once('error', reject);
      });
    }),
  );
  const sum = (of: (one: { messages: number; connections: number }) => number) =>
    counts.reduce((all, one) => all + of(one), 0);
  // Steps are rounded up to whole microseconds.
  assert.ok([999, 1000].includes(sum(({ messages }) => messages)));
  assert.equal(
    sum(({ connections }) => connections),
    7,
  );
});

test('a share that moves between two brings no bursts: no span has more than both may send together', () => {
  const random = seeded(20261202);
  for (let round = 0; round < 100; round++) {
    const limit = 20 + Math.floor(random() * 200);
    const slots = [0, 1].map(() => new LimitSlot(createLimitTable(), 0));
    const paces = { ...NO_PACES };
    const share = (slot: LimitSlot | undefined, part: number, nowMs: number): void => {
      paces.messages_per_s = paceOf(limit * part, SPANS.messages_per_s);
      slot?.write({ maxConnections: 0, messagesPerConnection: 100, isShare: true, paces }, nowMs);
    };
    for (const slot of slots) {
      slot.clear();
      share(slot, 0.5, START_MS);
      slot.beginEmpty(START_MS);
    }
    const went: number[] = [];
    for (let nowMs = START_MS; nowMs < START_MS + 3000; nowMs += 5) {
      for (const slot of slots) while (random() < 0.9 && slot.takeMessage(nowMs) === 0) went.push(nowMs);
      if (random() > 0.1) continue;
      const part = random() ** 3;
      const [less, more] = random() < 0.5 ? slots : [...slots].reverse();
      share(less, Math.max(0.02, part), nowMs);
      share(more, Math.max(0.02, 1 - part), nowMs);
    }
    assert.ok(most(went, 1000) <= limit * 1.04 + 2, `round ${round}: ${most(went, 1000)} of ${limit}`);
    assert.ok(went.length > limit, `round ${round}: ${went.length} of ${limit}`);
  }
});

test('of the connections beyond the limit, and no others, each is to be closed by one', () => {
  const slot = slotWith({ max_connections: 5 });
  for (let i = 0; i < 5; i++) assert.equal(slot.takeConnection(START_MS), 0);
  assert.equal(slot.leaves(), false);
  const limit = (maxConnections: number): void =>
    slot.write({ maxConnections, messagesPerConnection: 1, isShare: true, paces: NO_PACES });
  limit(3);
  assert.deepEqual([slot.leaves(), slot.leaves(), slot.leaves()], [true, true, false]);
  slot.freeConnection();
  slot.freeConnection();
  assert.equal(slot.leaves(), false);
  limit(NO_CONNECTION);
  assert.equal(slot.takeConnection(START_MS), WHEN_FREED);
  assert.equal(slot.leaves(), true);
});

const NO_PACES = {
  messages_per_s: NO_PACE,
  messages_per_h: NO_PACE,
  messages_per_day: NO_PACE,
  connections_per_min: NO_PACE,
};
