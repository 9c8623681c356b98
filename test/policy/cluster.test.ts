/** What nodes make of what they tell each other: buckets, greylist, bans, quotas. No Redis here. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { UserQuotas } from '../../src/auth/auth.ts';
import { QuotaShares } from '../../src/auth/quota-shares.ts';
import { Quotas } from '../../src/auth/quotas.ts';
import { parseNetwork } from '../../src/base/ip.ts';
import { RowWriter, readNumbers, readWords } from '../../src/base/key-rows.ts';
import { BanTable, banTableBytes, FOREVER_MS } from '../../src/policy/ban-table.ts';
import { type BanFact, ClusterBans } from '../../src/policy/cluster-bans.ts';
import { ClusterLedger, type Field } from '../../src/policy/cluster-ledger.ts';
import { Greylist, mergeSeen, shiftSeen } from '../../src/policy/greylist.ts';
import { isShared, type PolicyMemory } from '../../src/policy/host-memory.ts';
import { NotedSlots, notedBytes } from '../../src/policy/noted-slots.ts';
import { configOf, policyMemory } from '../session/dialog-fixture.ts';

interface Host {
  memory: PolicyMemory;
  ledger: ClusterLedger;
  greylist: Greylist;
}

const config = configOf({
  policy: {
    scope: 'cluster',
    max_counters: 1024,
    greylist: { enabled: true, delay_ms: 1000, client_passes: 2 },
  },
});

function host(): Host {
  const memory = policyMemory(config);
  const greylist = new Greylist(config.policy.greylist, memory.greylist, memory.greylistNoted);
  const ledger = new ClusterLedger(memory, () => greylist);
  ledger.nodes = 2;
  return { memory, ledger, greylist };
}

const mapOf = (fields: Field[]): Map<string, Buffer> =>
  new Map(fields.map(([name, value]) => [name, Buffer.from(value)]));

/** Each hears what the others tell. */
function exchange(hosts: Host[], nowMs: number): void {
  const told = hosts.map(({ ledger }) => mapOf(ledger.tell(nowMs).fields));
  for (const [i, { ledger }] of hosts.entries())
    for (const [j, fields] of told.entries()) if (i !== j) ledger.hear(fields, nowMs, nowMs);
}

const NOW = 1_800_000_000_000;

test('what two hosts give together, told every so often, is what the rate allows and one burst more at most', () => {
  const rules = fc.record({
    limit: fc.integer({ min: 5, max: 200 }),
    intervalMs: fc.constantFrom(1000, 7000),
    burst: fc.integer({ min: 5, max: 100 }),
  });
  fc.assert(
    fc.property(rules, fc.integer({ min: 20, max: 200 }), (bucket, everyMs) => {
      const hosts = [host(), host()];
      let given = 0;
      const forMs = 20_000;
      for (let ms = 0; ms < forMs; ms += 10) {
        for (const { memory } of hosts)
          for (let i = 0; i < 3; i++) if (memory.counters.take('x', 1, bucket, NOW + ms) === 0) given++;
        if (ms % everyMs < 10) exchange(hosts, NOW + ms);
      }
      const allowed = bucket.burst + (forMs * bucket.limit) / bucket.intervalMs;
      const asked = (forMs / 10) * 6;
      // In the last interval both may have taken the same tokens.
      const twice = Math.max(1, (everyMs * bucket.limit) / bucket.intervalMs + 1);
      const most = allowed + Math.max(twice, forMs < bucket.intervalMs ? bucket.burst : 0) + bucket.burst;
      assert.ok(given <= most, `${given} of ${allowed}`);
      assert.ok(given >= Math.min(asked, allowed) * 0.93 - 3, `only ${given} of ${allowed}`);
    }),
    { numRuns: 30 },
  );
});

test('one that joins hears levels; levels and what was taken are not counted twice', () => {
  const [a, b] = [host(), host()];
  const bucket = { limit: 10, intervalMs: 3_600_000, burst: 10 };
  for (let i = 0; i < 6; i++) assert.equal(a.memory.counters.take('x', 1, bucket, NOW), 0);
  a.ledger.forgetUntold();
  exchange([a, b], NOW);
  a.memory.counters.take('x', 1, bucket, NOW);
  a.ledger.tellLevels();
  exchange([a, b], NOW);
  let left = 0;
  while (b.memory.counters.take('x', 1, bucket, NOW) === 0) left++;
  assert.equal(left, 3);
  // With another seed it is another key.
  assert.equal(b.ledger.agree(4711), true);
  assert.equal(b.memory.counters.take('x', 1, bucket, NOW), 0);
  assert.equal(b.ledger.agree(Number.NaN), false);
  assert.equal(b.ledger.seed, 4711);
});

test('greylist: first seen here and passed there, and a client that passed often enough is known here', () => {
  const [a, b] = [host(), host()];
  const client = {
    ip: [0, 0, 0xffff, 0xcb007101] as const,
    address: '203.0.113.1',
    mayRelay: false,
    user: null,
  };
  const look = ({ greylist }: Host, recipient: string, ms: number): boolean =>
    greylist.look(client, 'a@b', recipient, NOW + ms) === null;
  assert.equal(look(a, 'one', 0), false);
  exchange([a, b], NOW);
  assert.equal(look(b, 'one', 500), false);
  assert.equal(look(b, 'one', 1500), true);
  exchange([a, b], NOW);
  assert.equal(look(a, 'one', 1600), true);
  assert.equal(look(a, 'two', 2000), false);
  assert.equal(look(a, 'two', 4000), true);
  exchange([a, b], NOW);
  assert.equal(look(b, 'never seen', 4000), true, 'the client is known');
});

test('what two hosts saw of one key', () => {
  const windows = { retry_window_ms: 1_000_000, keep_ms: 10_000_000 };
  const t = 1_700_000_000;
  const merge = (a: [number, number], b: [number, number]): number[] =>
    Object.values(mergeSeen({ first: a[0], last: a[1] }, { first: b[0], last: b[1] }, windows));
  assert.deepEqual(merge([0, 0], [t, t]), [t, t], 'nothing was known');
  assert.deepEqual(merge([t, t + 5], [t + 3, t + 3]), [t, t + 5], 'the earliest first, the latest last');
  assert.deepEqual(merge([t, t + 9], [0, t + 5]), [0, t + 5], 'passed is passed');
  assert.deepEqual(merge([3, t], [5, t + 1]), [5, t + 1], 'passes of a client');
  assert.deepEqual(merge([t, t], [t + 2000, t + 2000]), [t + 2000, t + 2000], 'too old to count');
  assert.deepEqual(merge([t + 2000, t + 2000], [t, t]), [t + 2000, t + 2000]);
});

test('noted slots come out once, in order; when there were too many, that is said', () => {
  const noted = new NotedSlots(new SharedArrayBuffer(notedBytes), 0);
  const drain = (most: number): [string, number[]] => {
    const slots: number[] = [];
    return [noted.drain(most, (slot) => slots.push(slot)), slots];
  };
  for (const slot of [0, 7, 3]) noted.add(slot);
  assert.deepEqual(drain(2), ['more', [0, 7]]);
  assert.deepEqual(drain(2), ['all', [3]]);
  for (let i = 0; i < 100_000; i++) noted.add(i);
  assert.deepEqual(drain(10), ['overflowed', []]);
  noted.add(5);
  assert.deepEqual(drain(10), ['all', [5]]);
});

test('buckets that were too many to note are all told', () => {
  const [a, b] = [host(), host()];
  const bucket = { limit: 1, intervalMs: 3_600_000, burst: 1 };
  for (let i = 0; i < 20_000; i++) a.memory.counters.take(`bucket ${i}`, 1, bucket, NOW);
  exchange([a, b], NOW);
  assert.ok((b.memory.counters.take('bucket 19999', 1, bucket, NOW) as number) > 0);
});

test('hosts whose clocks differ say the same times, and no ban is a change because of it', () => {
  const table = (): BanTable => new BanTable(new SharedArrayBuffer(banTableBytes(64)), 0, 64);
  const [one, other] = [table(), table()];
  const [a, b] = [one, other].map(
    (held) => new ClusterBans({ table: held, forgetMs: () => 1000, maxEntries: 8 }),
  ) as [ClusterBans, ClusterBans];
  const network = parseNetwork('192.0.2.1') ?? assert.fail();
  const forever = parseNetwork('192.0.2.2') ?? assert.fail();
  one.put(network, { kind: 'auth', sinceMs: NOW, untilMs: NOW + 60_000, times: 1 });
  one.put(forever, { kind: 'operator', sinceMs: NOW, untilMs: FOREVER_MS, times: 1 });
  // Of what is common, a is 100 s behind and b 50 s ahead; b measures it anew each time.
  const facts = a.changes(NOW + 100_000, 100_000);
  for (const fact of facts) b.learn(fact, NOW + 100_000, -50_000);
  assert.equal(other.get(network)?.untilMs, NOW + 210_000);
  assert.equal(other.get(forever)?.untilMs, FOREVER_MS);
  const noise = parseNetwork('192.0.2.3') ?? assert.fail();
  other.put(noise, { kind: 'auth', sinceMs: NOW + 150_000, untilMs: NOW + 160_000, times: 1 });
  const told = b.changes(NOW + 100_700, -49_300);
  assert.deepEqual(
    told.map((fact) => fact.network),
    ['192.0.2.3'],
  );
});

test('a file of the greylist is read and written by another clock than the memory has', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1_600_000_000, max: 1_900_000_000 }), fc.nat(20), fc.boolean())),
      fc.integer({ min: -300_000_000, max: 300_000_000 }),
      (rows, byS) => {
        const words = new Uint32Array(4 + rows.length * 4);
        words[0] = 4711;
        rows.forEach(([last, count, isTime], i) => {
          words.set([1, 2, isTime ? last - count : count, last], 4 + i * 4);
        });
        const bytes = Buffer.from(words.buffer.slice(0));
        shiftSeen(bytes, byS * 1000);
        const shifted = new Uint32Array(bytes.buffer, bytes.byteOffset, words.length);
        assert.equal(shifted[0], 4711);
        rows.forEach(([last, count, isTime], i) => {
          const expected = [1, 2, isTime ? last - count + byS : count, last + byS];
          assert.deepEqual([...shifted.slice(4 + i * 4, 8 + i * 4)], expected);
        });
        shiftSeen(bytes, -byS * 1000);
        assert.deepEqual([...shifted], [...words]);
      },
    ),
  );
});

test('bans: the newest fact of a network counts, in whatever order facts come', () => {
  const options = (table: BanTable) => ({ table, forgetMs: () => 1000, maxEntries: 8 });
  const table = (): BanTable => new BanTable(new SharedArrayBuffer(banTableBytes(64)), 0, 64);
  const [one, other] = [table(), table()];
  const [a, b] = [new ClusterBans(options(one)), new ClusterBans(options(other))];
  const network = parseNetwork('192.0.2.1') ?? assert.fail();
  const ban = { kind: 'auth', sinceMs: 1000, untilMs: 900_000, times: 2 } as const;
  one.put(network, ban);
  const facts = a.changes(5000);
  assert.deepEqual(
    facts.map(({ network, atMs }) => [network, atMs]),
    [['192.0.2.1', 1000]],
  );
  assert.deepEqual(a.changes(5000), []);
  assert.deepEqual(b.meet(facts, 5000), []);
  assert.deepEqual(other.list(0), one.list(0));
  assert.deepEqual(b.changes(5000), [], 'what was heard is not told again');
  // Deleted here; the older ban does not come back, a newer one does.
  other.remove(network);
  const deleted = b.deleted('192.0.2.1', 6000);
  assert.deepEqual(b.changes(6000), []);
  b.learn(facts[0] as BanFact, 6000);
  assert.equal(other.get(network), null);
  a.learn(deleted, 6000);
  assert.equal(one.get(network), null);
  one.put(network, { ...ban, times: 3 });
  for (const fact of a.changes(7000)) b.learn(fact, 7000);
  assert.equal(other.get(network)?.times, 3);
  // Who was away hears the rest, and says what nobody knew.
  const late = new ClusterBans(options(table()));
  assert.deepEqual(late.meet([], 7000), []);
  assert.equal(a.meet([], 7000).length, 1);
  for (const bad of ['', 'x', '[]', '["auth",1,2]', '["none",1,2,3]', 'null'])
    late.learn({ network: bad === '' ? 'no network' : '192.0.2.2', atMs: 9000, text: bad }, 9000);
  // Over and forgotten, or too many.
  assert.deepEqual(a.prune(902_000), ['192.0.2.1']);
  for (let i = 0; i < 40; i++)
    b.learn(
      { network: `10.0.0.${i}`, atMs: 10_000, text: `["auth",1000,${2_000_000 + i * 1000},1]` },
      10_000,
    );
  assert.equal(b.prune(10_000).length, 41 - 16);
});

test('quotas: hosts count together, each thing once, given back too', () => {
  const nowMs = NOW;
  const limits: UserQuotas = {
    messagesPerHour: 0,
    messagesPerDay: 10,
    recipientsPerHour: 0,
    recipientsPerDay: 0,
  };
  const quotas = [0, 1].map(() => new Quotas(new ArrayBuffer(64 * 64), () => nowMs));
  const [first, second] = quotas as [Quotas, Quotas];
  const shares = quotas.map((one) => new QuotaShares(one));
  const tellAll = (): void => {
    for (let part = 0; part < 10; part++) {
      const told = shares.map((one) => mapOf(one.tell()));
      shares[0]?.hear(told[1] as Map<string, Buffer>);
      shares[1]?.hear(told[0] as Map<string, Buffer>);
    }
  };
  for (let i = 0; i < 4; i++) assert.equal(first.take('u', limits, 1), null);
  for (let i = 0; i < 3; i++) assert.equal(second.take('u', limits, 1), null);
  tellAll();
  tellAll();
  for (const one of quotas) {
    assert.equal(one.check('u', limits, 3, 0), null);
    assert.equal(one.check('u', limits, 4, 0), 'messagesPerDay');
  }
  second.giveBack('u', limits, 1);
  first.take('u', limits, 1);
  first.take('u', limits, 1);
  tellAll();
  for (const one of quotas) {
    assert.equal(one.check('u', limits, 2, 0), null);
    assert.equal(one.check('u', limits, 3, 0), 'messagesPerDay');
  }
  // One that was away for long: what it counted is added, what it missed comes as levels.
  const third = new Quotas(new ArrayBuffer(128 * 64), () => nowMs);
  const late = new QuotaShares(third);
  third.take('u', limits, 1);
  late.tellLevels();
  shares[0]?.hear(mapOf(late.tell()));
  shares[0]?.tellLevels();
  for (let part = 0; part < 10; part++) late.hear(mapOf(shares[0]?.tell() as Field[]));
  for (const one of [first, third]) {
    assert.equal(one.check('u', limits, 1, 0), null);
    assert.equal(one.check('u', limits, 2, 0), 'messagesPerDay');
  }
});

test('rows are read as they were written; what is cut off or senseless is passed over', () => {
  const rows = new RowWriter();
  for (let i = 0; i < 100; i++) rows.number(-i - 1, i * 1e7, i + 0.5);
  rows.number(1, 1, Number.NaN);
  const read: number[][] = [];
  readNumbers(rows.bytes().subarray(0, -1), (...row) => read.push(row));
  assert.deepEqual(read[99], [-100, 99e7, 99.5]);
  assert.equal(read.length, 100);
  const words = new RowWriter();
  words.words(5, -6, 0xffffffff, 7);
  readWords(words.bytes(), (...row) => assert.deepEqual(row, [5, -6, 0xffffffff, 7]));
});

test('policy.scope: auto is as the scheduler; host never shares', () => {
  const shared = (scope: 'auto' | 'host' | 'cluster', engine: 'embedded' | 'bullmq'): boolean =>
    isShared({ policy: { scope }, scheduler: { engine } });
  assert.deepEqual(
    [
      shared('auto', 'embedded'),
      shared('auto', 'bullmq'),
      shared('host', 'bullmq'),
      shared('cluster', 'embedded'),
    ],
    [false, true, false, true],
  );
});
