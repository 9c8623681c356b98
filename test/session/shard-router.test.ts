import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createGauges, GAUGE } from '../../src/admission/gauges.ts';
import { configSchema } from '../../src/config/schema.ts';
import type { Envelope } from '../../src/mail/envelope.ts';
import { isQueueId, QueueIds, shardOfQueueId } from '../../src/mail/queue-id.ts';
import { ShardRouter } from '../../src/session/shard-router.ts';
import { recipient } from '../persistence/fixture.ts';

const envelope = (from: string, ...to: string[]): Envelope => ({
  reversePath: from,
  body: '7BIT',
  smtpUtf8: false,
  recipients: to.map(recipient),
});

function bench(router: object, shards: object[], usable: number) {
  const { database } = configSchema.parse({ database: { driver: 'mysql_distributed', router, shards } });
  const gauges = createGauges();
  Atomics.store(gauges, GAUGE.usableShards, usable);
  const asked: string[] = [];
  const clock = { nowMs: 1_800_000_000_000 };
  const queueIds = new QueueIds(1, 0, () => clock.nowMs);
  const options = {
    database,
    gauges,
    queueIds,
    now: () => clock.nowMs,
    lookUp: (u: string) => void asked.push(u),
  };
  const routes = new ShardRouter(options);
  const shardOf = (from = 'a@b.test', ...to: string[]): number => {
    const queueId = routes.queueId(envelope(from, ...to));
    assert.ok(isQueueId(queueId), queueId);
    return shardOfQueueId(queueId);
  };
  const counts = (mails: number): number[] => {
    const sums: number[] = [];
    for (let i = 0; i < mails; i++) {
      if (i % 10 === 0) clock.nowMs++;
      const shard = shardOf();
      sums[shard] = (sums[shard] ?? 0) + 1;
    }
    return sums;
  };
  return { gauges, asked, clock, routes, shardOf, counts };
}
const SHARDS = [{ name: 's0' }, { name: 's1' }, { name: 's2' }];

describe('shard router', () => {
  it('hash spreads by weight over the shards that can be used', () => {
    const { counts, gauges } = bench(
      { type: 'hash' },
      [
        { name: 's0', weight: 1 },
        { name: 's1', weight: 3 },
        { name: 's2', id: 9, weight: 1 },
      ],
      0b1000000011,
    );
    const [first = 0, second = 0] = counts(10_000);
    assert.ok(first > 1800 && first < 2200 && second > 5700 && second < 6300, `${first} ${second}`);
    Atomics.store(gauges, GAUGE.usableShards, 0b1000000001);
    const without = counts(10_000);
    assert.equal(without[1], undefined, 'nothing for a shard that is down');
    assert.ok((without[9] ?? 0) > 4700);
    Atomics.store(gauges, GAUGE.usableShards, 0);
    assert.equal(
      counts(100).reduce((sum, n) => sum + n, 0),
      100,
      'with none it still makes ids',
    );
  });

  it('static goes by the first recipient domain listed, hash decides the rest', () => {
    const { shardOf, gauges } = bench(
      { type: 'static', domains: { 'One.test': 's2', 'two.test': 's1' } },
      SHARDS,
      0b111,
    );
    for (let i = 0; i < 50; i++) {
      assert.equal(shardOf('', 'x@other.test', 'y@one.test', 'z@two.test'), 2);
      assert.equal(shardOf('', 'z@two.test'), 1);
    }
    Atomics.store(gauges, GAUGE.usableShards, 0b011);
    assert.notEqual(shardOf('', 'y@one.test'), 2, 'its shard is down: another takes it');
  });

  it('table looks the sender up once in cache_ttl_ms, and hash decides until it knows', () => {
    const { shardOf, routes, asked, clock } = bench(
      { type: 'table', cache_ttl_ms: 5000, cache_max_entries: 2 },
      SHARDS,
      0b111,
    );
    routes.expect('Bob@b.test');
    routes.expect('bob@b.test');
    routes.expect('');
    assert.deepEqual(asked, ['bob@b.test'], 'asked once, whatever the case');
    const before = new Set<number>();
    for (let i = 0; i < 100; i++) before.add(shardOf('bob@b.test'));
    assert.equal(before.size, 3);
    routes.learn('bob@b.test', 2);
    for (let i = 0; i < 50; i++) assert.equal(shardOf('BOB@b.test'), 2);
    routes.expect('bob@b.test');
    assert.equal(asked.length, 1);
    clock.nowMs += 5001;
    routes.expect('bob@b.test');
    assert.equal(asked.length, 2);
    assert.equal(shardOf('bob@b.test'), 2, 'the old answer holds until the new one is there');
    routes.unanswered('bob@b.test');
    assert.equal(shardOf('bob@b.test'), 2, 'and when nobody can say');
    for (const user of ['x@b.test', 'y@b.test']) routes.expect(user);
    routes.expect('bob@b.test');
    assert.equal(asked.at(-1), 'bob@b.test', 'beyond cache_max_entries it is forgotten');
  });

  it('a single database has shard 0', () => {
    const gauges = createGauges();
    const { database } = configSchema.parse({});
    const queueIds = new QueueIds(1, 0);
    const router = new ShardRouter({ database, gauges, queueIds, now: Date.now, lookUp: assert.fail });
    router.expect('a@b.test');
    assert.equal(shardOfQueueId(router.queueId(envelope('a@b.test'))), 0);
  });
});
