/** What lies in shared memory: buckets, bans, counts of connections; also seen by several threads and processes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { type Ip, parseIp, parseNetwork } from '../../src/base/ip.ts';
import { type Account, Accounts, accountsBytes } from '../../src/policy/accounts.ts';
import { BanTable, banTableBytes } from '../../src/policy/ban-table.ts';
import { banDurationMs } from '../../src/policy/bans.ts';
import { HostCounters } from '../../src/policy/counters.ts';
import { SlotTable, slotTableBytes } from '../../src/policy/slot-table.ts';

function counters(slots = 1024, memory = new SharedArrayBuffer(slotTableBytes(slots))): HostCounters {
  SlotTable.initialize(memory, 0, 42);
  return new HostCounters(memory, 0, slots);
}

const ip = (text: string): Ip => parseIp(text) ?? assert.fail(text);
const network = (text: string) => parseNetwork(text) ?? assert.fail(text);
const ban = (untilMs: number) => ({ kind: 'auth', sinceMs: 1000, untilMs, times: 1 }) as const;

test('a bucket never gives more than its burst and what came back, and says exactly when there is more', () => {
  const step = fc.record({
    waitMs: fc.integer({ min: 0, max: 3000 }),
    tokens: fc.integer({ min: 1, max: 4 }),
  });
  const rules = fc.record({
    limit: fc.integer({ min: 1, max: 2000 }),
    intervalMs: fc.integer({ min: 100, max: 60_000 }),
    burst: fc.integer({ min: 4, max: 50 }),
  });
  fc.assert(
    fc.property(rules, fc.array(step, { maxLength: 60 }), (bucket, steps) => {
      const store = counters();
      let nowMs = 1_700_000_000_000;
      let level = bucket.burst;
      for (const { waitMs, tokens } of steps) {
        nowMs += waitMs;
        level = Math.min(bucket.burst, level + (waitMs * bucket.limit) / bucket.intervalMs);
        const wait = store.take('x', tokens, bucket, nowMs) as number;
        // A microsecond of rounding for each token taken.
        const slack = (0.002 * bucket.limit * steps.length) / bucket.intervalMs + 1e-6;
        if (wait === 0) {
          assert(level >= tokens - slack, `gave ${tokens} of ${level}`);
          level -= tokens;
        } else {
          assert(level < tokens + slack, `kept ${tokens} of ${level}`);
          const expected = ((tokens - level) * bucket.intervalMs) / bucket.limit;
          assert(Math.abs(wait - expected) <= 2, `${wait} for ${expected}`);
        }
      }
    }),
  );
});

test('a bucket gives all of its burst, also where a token is no whole number of microseconds', () => {
  for (const [limit, burst] of [
    [7, 1],
    [22, 1],
    [7, 7],
    [11, 300],
  ] as const) {
    const store = counters();
    const bucket = { limit, intervalMs: 60_000, burst };
    for (let i = 0; i < burst; i++)
      assert.equal(store.take('x', 1, bucket, 1_700_000_000_000), 0, `${limit}`);
    assert.ok((store.take('x', 1, bucket, 1_700_000_000_000) as number) > 0);
  }
});

test('buckets are many, apart, and forgotten when full; a clock set back locks nobody out', () => {
  const store = counters(64);
  const bucket = { limit: 1, intervalMs: 1000, burst: 1 };
  assert.equal(store.take('a', 1, bucket, 10_000), 0);
  assert.equal(store.take('b', 1, bucket, 10_000), 0);
  assert.ok((store.take('a', 1, bucket, 10_500) as number) > 0);
  for (let i = 0; i < 10_000; i++) store.take(`filler ${i}`, 1, bucket, 20_000);
  assert.equal(store.take('a', 1, bucket, 20_000), 0);
  assert.ok((store.take('a', 1, bucket, 5000) as number) <= 1000);
  assert.equal(store.take('a', 1, bucket, 6001), 0);
});

test('threads share one bucket: together they get what one would get', async () => {
  const memory = new SharedArrayBuffer(slotTableBytes(1024));
  const store = counters(1024, memory);
  const code = `
    import { workerData, parentPort } from 'node:worker_threads';
    import { HostCounters } from '${new URL('../../src/policy/counters.ts', import.meta.url)}';
    const store = new HostCounters(workerData, 0, 1024);
    let got = 0;
    for (let i = 0; i < 20000; i++)
      if (store.take('x', 1, { limit: 1, intervalMs: 60000, burst: 5000 }, 1000000) === 0) got++;
    parentPort.postMessage(got);`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
  const got = await Promise.all(
    [1, 2, 3].map(
      () =>
        new Promise<number>((resolve, reject) => {
          new Worker(url, { workerData: memory }).once('message', resolve).once('error', reject);
        }),
    ),
  );
  assert.equal(
    got.reduce((sum, n) => sum + n, 0),
    5000,
  );
  assert.ok((store.take('x', 1, { limit: 1, intervalMs: 60_000, burst: 5000 }, 1_000_000) as number) > 0);
});

test('bans against a model: addresses and networks added, deleted, looked up, at any time', () => {
  const text = fc.constantFrom(
    '192.0.2.1',
    '192.0.2.2',
    '192.0.2.0/24',
    '192.0.0.0/16',
    '2001:db8::1',
    '2001:db8::/64',
    '::/0',
    '203.0.113.9',
  );
  const step = fc.oneof(
    fc.record({ put: text, forS: fc.integer({ min: 1, max: 100 }) }),
    fc.record({ remove: text }),
    fc.record({ waitS: fc.integer({ min: 0, max: 60 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const table = new BanTable(new SharedArrayBuffer(banTableBytes(64)), 0, 64);
      const model = new Map<string, number>();
      let nowMs = 1_000_000;
      for (const one of steps) {
        if ('waitS' in one) nowMs += one.waitS * 1000;
        else if ('put' in one) {
          model.set(one.put, nowMs + one.forS * 1000);
          table.put(network(one.put), ban(nowMs + one.forS * 1000));
        } else {
          assert.equal(table.remove(network(one.remove)), model.delete(one.remove));
        }
        const live = [...model].filter(([, untilMs]) => untilMs > nowMs).map(([name]) => name);
        assert.deepEqual(
          table
            .list(nowMs)
            .map((b) => b.network)
            .sort(),
          live.sort(),
        );
        for (const probe of [
          '192.0.2.1',
          '192.0.2.7',
          '192.0.9.9',
          '2001:db8::2',
          '2002::1',
          '203.0.113.9',
        ]) {
          const held = live.some((name) => {
            const { ip: base, bits } = network(name);
            return bits === 0 || isWithin(ip(probe), base, bits);
          });
          assert.equal(table.find(ip(probe), nowMs) !== null, held, probe);
        }
      }
    }),
    { numRuns: 200 },
  );
});

function isWithin(a: Ip, b: Ip, bits: number): boolean {
  const bitsOf = (one: Ip): string => one.map((word) => word.toString(2).padStart(32, '0')).join('');
  return bitsOf(a).slice(0, bits) === bitsOf(b).slice(0, bits);
}

test('a full table makes room for the ban that lasts longest; versions tell of every change', () => {
  const table = new BanTable(new SharedArrayBuffer(banTableBytes(16)), 0, 16);
  for (let i = 0; i < 2000; i++) {
    const before = table.version;
    table.put(network(`10.${i >> 8}.${i & 255}.1`), ban(2000 + i * 1000));
    assert.notEqual(table.version, before);
    assert.equal(table.find(ip(`10.${i >> 8}.${i & 255}.1`), 1000)?.kind, 'auth');
  }
  assert.ok(table.list(0).length <= 64);
});

test('each ban lasts longer than the one before, up to the longest', () => {
  const rules = { duration_ms: 1000, growth: 3, max_duration_ms: 20_000 };
  assert.deepEqual(
    [1, 2, 3, 4, 1000].map((times) => banDurationMs(times, rules)),
    [1000, 3000, 9000, 20_000, 20_000],
  );
});

test('connections of all processes count; those of one that died are cleared', () => {
  const memory = new SharedArrayBuffer(accountsBytes(3));
  Accounts.initialize(memory, 0, 99, 3);
  const accounts = [0, 1, 2].map((process) => new Accounts(memory, 0, 3, process));
  const client = (i: number) => (accounts[0] as Accounts).accountOf(ip(`10.0.${i}.1`), false);
  for (const one of accounts) for (let i = 0; i < 100; i++) one.count(client(i % 10), 'connections', 1);
  assert.equal(accounts[0]?.total('connections'), 300);
  assert.equal(accounts[0]?.of(client(3).client, 'connections'), 30);
  assert.equal(accounts[0]?.of(client(3).network, 'connections'), 30);
  assert.equal(accounts[2]?.of(client(11).client, 'connections'), 0);
  Accounts.clear(memory, 0, 1);
  assert.equal(accounts[0]?.total('connections'), 200);
  accounts[0]?.count(client(3), 'connections', -1);
  assert.equal(accounts[1]?.of(client(3).client, 'connections'), 19);
});

test('accounts: whatever is taken and given back, no share is passed and nothing is left', () => {
  const memory = new SharedArrayBuffer(accountsBytes(1));
  Accounts.initialize(memory, 0, 4711, 1);
  const threads = [0, 1].map(() => new Accounts(memory, 0, 1, 0));
  const [one] = threads as [Accounts, Accounts];
  one.limit('content', { total: 1000, client: 200, network: 350, trusted: 700, strangers: 800 });
  const clients = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.1.1', '2001:db8::1', '2001:db8::2'].map(
    (address, i) => one.accountOf(ip(address), i === 3),
  );
  const held: { by: number; amount: number }[] = [];
  let seed = 99;
  const below = (limit: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % limit;
  };
  let refused = 0;
  for (let i = 0; i < 20_000; i++) {
    const accounts = threads[i % 2] as Accounts;
    const by = below(clients.length);
    const client = clients[by] as Account;
    if (below(5) < 3) {
      const amount = 1 + below(60);
      const fits = accounts.fits(client, 'content', amount);
      const taken = accounts.take(client, 'content', amount);
      assert.equal(taken, fits);
      if (taken) {
        held.push({ by, amount });
        assert.ok(client.trusted || one.total('content') <= 800, 'what is left is for those who are trusted');
      } else refused++;
    } else {
      const [last] = held.splice(below(Math.max(1, held.length)), 1);
      if (last !== undefined) accounts.give(clients[last.by] as Account, 'content', last.amount);
    }
    const sum = (some: number[]): number =>
      held.reduce((all, { by: whose, amount }) => all + (some.includes(whose) ? amount : 0), 0);
    assert.equal(one.total('content'), sum([0, 1, 2, 3, 4, 5]));
    assert.ok(sum([0]) <= 200 && sum([3]) <= 700 && sum([0, 1, 2]) <= 350 && sum([4, 5]) <= 200);
    assert.ok(one.total('content') <= 1000);
  }
  assert.ok(refused > 1000);
  for (const { by, amount } of held) one.give(clients[by] as Account, 'content', amount);
  assert.equal(one.total('content'), 0);
  for (const { client, network } of clients)
    assert.deepEqual([one.of(client, 'content'), one.of(network, 'content')], [0, 0]);
});
