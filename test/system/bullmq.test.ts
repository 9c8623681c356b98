/** Relays that share a queue in MariaDB and their schedule in Redis, and what becomes of mail when Redis fails. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SchedulerAnswer } from '../../src/control/stats-answer.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { fate } from '../support/fates.ts';
import {
  fewStatements,
  LEASE_MS,
  oneShard,
  sharedFolder,
  sharedServer,
  startNode,
  startSink,
} from '../support/nodes.ts';
import { oneFateEach } from '../support/one-fate.ts';
import { bounded, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { Talk } from '../support/talk.ts';

const skip = skipWithoutMariaDb() || skipWithoutRedis();

async function startRedis(t: TestContext, password?: string): Promise<RedisServer> {
  const redis = await RedisServer.start(password === undefined ? {} : { password });
  t.after(() => redis.close());
  return redis;
}

const scheduler = (redis: RedisServer, more: object = {}): Settings => ({
  engine: 'bullmq',
  poll_interval_ms: 100,
  redis: { url: redis.url, timeout_ms: 500, reconcile_interval_ms: 60_000, ...more },
});

const clusterOf = async (relay: RelayFixture): Promise<NonNullable<SchedulerAnswer['cluster']>> => {
  const { answer } = await relay.queuePartJson<{ scheduler: SchedulerAnswer }>('stats');
  assert.ok(answer.scheduler.cluster !== null);
  return answer.scheduler.cluster;
};

async function untilRedis(relay: RelayFixture, up: boolean, withinMs = 8000): Promise<void> {
  for (const endMs = Date.now() + withinMs; (await clusterOf(relay)).up !== up; await sleep(50))
    assert.ok(Date.now() < endMs, `Redis is ${up ? 'not used' : 'not given up'} after ${withinMs} ms`);
}

test('config/cluster.json: mail is spread over the shards, deferred mail comes back by its job', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const server = await MariaDb.start();
  t.after(() => server.close());
  const accesses = [await server.createDatabase(), await server.createDatabase()];
  for (const access of accesses) await migrate(serverConfig(server.admin(access)), Date.now());
  const redis = await startRedis(t, 'of Redis');
  const sink = await startSink(t);
  const folder = mkdtempSync(join(tmpdir(), 'cluster-json-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const env = { RELAY_DB_PASSWORD: String(accesses[0]?.password), REDIS_PASSWORD: 'of Redis' };
  // The command line reads the same file.
  Object.assign(process.env, env);
  t.after(() => {
    for (const name of Object.keys(env)) delete process.env[name];
  });
  const relay = new RelayFixture({}, { dir: folder });
  t.after(() => relay.destroy());
  relay.writeConfig({
    include: [join(import.meta.dirname, '../../config/cluster.json')],
    data_dir: 'data',
    // Lists are replaced as a whole.
    database: {
      shards: accesses.map(({ port, user, database }, i) => ({
        name: `s${i}`,
        port,
        user,
        database,
        password: `\${RELAY_DB_PASSWORD}`,
      })),
    },
    scheduler: {
      poll_interval_ms: 60_000,
      redis: {
        url: redis.url,
        prefix: 'cluster-test',
        password: `\${REDIS_PASSWORD}`,
        reconcile_interval_ms: 60_000,
        min_processes: 1,
      },
    },
    storage: { distributed: { roots: ['a', 'b', 'c'] } },
    listeners: [{ host: '127.0.0.1', port: 0 }],
    persist_min_available_memory_mb: 64,
    retry: { initial_delay_ms: 1500, jitter_ratio: 0 },
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      refuse_loopback_mx: false,
      suspend_after_failures: 1000,
    },
    log: { format: 'json' },
  });
  await relay.start();
  await untilRedis(relay, true);
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  const recipients = Array.from({ length: 12 }, (_, i) => `once-451-at-rcpt+${i}@one.test`);
  const shards = new Set<string | undefined>();
  for (const to of recipients) shards.add((await talk.accepted({ to })).at(-1));
  assert.deepEqual([...shards].sort(), ['0', '1']);
  await oneFateEach([relay], recipients, 8000);
  const cluster = await clusterOf(relay);
  assert.ok(cluster.taken_jobs > 0, 'by a job');
  assert.equal(cluster.processes, 1);
  const stats = await relay.queue('stats');
  assert.match(stats.stdout, /Redis {7}up for \S+, 1 process; jobs: \d+ announced, \d+ taken; 0 outages/);
  await relay.stop();
  const left = await redis.ask(async (client) => [
    await client.llen('cluster-test:due:active'),
    await client.zcard('cluster-test:processes'),
  ]);
  assert.deepEqual(left, [0, 0], 'a relay that stops leaves no job behind');
});

test('what a node that only accepts takes in is sent by the others at once', {
  skip,
  timeout: 60_000,
}, async (t) => {
  const { access } = await sharedServer();
  const redis = await startRedis(t);
  const sink = await startSink(t);
  const settings = {
    database: { driver: 'mysql', ...access },
    scheduler: scheduler(redis),
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  };
  const mail = sharedFolder(t);
  const a = await startNode(t, 'a', mail, {
    ...settings,
    delivery: { ...settings.delivery, enabled: false },
  });
  await untilRedis(a, true);
  const talk = await Talk.hello({ host: '127.0.0.1', port: a.port });
  // What an operator ends is not sent: it needs none of the others.
  const ended = await talk.accepted({ to: 'ended@one.test' });
  assert.equal((await a.queue('fail', ended)).code, 0);
  await fate(a.events, 'ended@one.test', 'bounced');
  const b = await startNode(t, 'b', mail, settings);
  await untilRedis(b, true);
  const to = 'x@one.test';
  await talk.accepted({ to });
  await fate(b.events, to, 'delivered');
});

test('two nodes under load while Redis stops, is flushed, stands still and is full: one fate each', {
  skip,
  timeout: 180_000,
}, async (t) => {
  const { access } = await sharedServer();
  const redis = await startRedis(t);
  const sink = await startSink(t);
  const settings = {
    database: { driver: 'mysql', ...access },
    scheduler: scheduler(redis),
    lease_ms: 120_000,
    retry: { initial_delay_ms: 700, max_delay_ms: 1000 },
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      suspend_after_failures: 1000,
      // Part of what comes in has to wait for a place.
      max_handoff_messages: 40,
    },
  };
  const mail = sharedFolder(t);
  const nodes = [await startNode(t, 'a', mail, settings), await startNode(t, 'b', mail, settings)];
  const [a, b] = nodes as [RelayFixture, RelayFixture];
  const deferred: string[] = [];
  const talk = await Talk.hello({ host: '127.0.0.1', port: a.port });
  /** Deferred at first, so that it comes back while something is wrong. */
  const defer = async (count: number): Promise<string[]> => {
    const some: string[] = [];
    for (let i = 0; i < count; i++) {
      const to = `once-451-at-rcpt+${deferred.length}@one.test`;
      await talk.accepted({ to });
      deferred.push(to);
      some.push(to);
    }
    return some;
  };
  // What is deferred waits its turn: more than is sent would make it wait longer and longer.
  const load = new SteadyLoad(() => [a.port, b.port], 8, 'one.test', 30);
  t.after(() => load.stop());
  const faults: Record<string, { begin(): Promise<void>; end(): Promise<void> }> = {
    stopped: { begin: () => redis.stop(), end: () => redis.start() },
    'standing still': { begin: async () => redis.pause(), end: async () => redis.resume() },
    full: { begin: () => redis.fill(), end: () => redis.unfill() },
  };
  for (const [name, { begin, end }] of Object.entries(faults)) {
    await untilRedis(a, true);
    await untilRedis(b, true);
    const before = await defer(10);
    await begin();
    const during = await defer(10);
    await bounded(load.more(150), 20_000, () => `Redis ${name}:\n${a.output()}`);
    await untilRedis(a, false);
    await oneFateEach(nodes, [...before, ...during], 15_000);
    await end();
  }
  await untilRedis(a, true);
  const flushed = await defer(10);
  await redis.ask((client) => client.flushall());
  await oneFateEach(nodes, flushed, 15_000);
  await load.stop();
  const stopped = Date.now();
  await oneFateEach(nodes, [...load.acknowledged, ...deferred], 30_000);
  t.diagnostic(
    `${load.acknowledged.length} messages, the last settled ${Date.now() - stopped} ms after the load`,
  );
  await untilRedis(b, true);
  assert.ok((await clusterOf(a)).outages >= 4);
});

test('a node killed while it sends: the others take its rows over when its leases end', {
  skip,
  timeout: 60_000,
}, async (t) => {
  const { access } = await sharedServer();
  const redis = await startRedis(t);
  const sink = await startSink(t);
  const settings = {
    database: oneShard(access),
    scheduler: scheduler(redis, { reconcile_interval_ms: 500 }),
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, max_connections_per_destination: 4 },
  };
  const mail = sharedFolder(t);
  const [a, b] = [await startNode(t, 'a', mail, settings), await startNode(t, 'b', mail, settings)];
  const talk = await Talk.hello({ host: '127.0.0.1', port: a.port });
  const recipients = Array.from({ length: 30 }, (_, i) => `slow-400+${i}@one.test`);
  for (const to of recipients) await talk.accepted({ to });
  await sink.received(4);
  await a.kill();
  await oneFateEach([a, b], recipients, LEASE_MS + 15_000, { sink, atMost: 4 });
});

test('a rate for each destination holds over the nodes', { skip, timeout: 60_000 }, async (t) => {
  const { access } = await sharedServer();
  const redis = await startRedis(t);
  const sink = await startSink(t);
  const settings = {
    database: { driver: 'mysql', ...access },
    scheduler: scheduler(redis, { min_processes: 2 }),
    lease_ms: 120_000,
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      max_messages_per_destination_per_s: 40,
    },
  };
  const mail = sharedFolder(t);
  const nodes = [await startNode(t, 'a', mail, settings), await startNode(t, 'b', mail, settings)];
  for (const node of nodes) await untilRedis(node, true);
  const load = new SteadyLoad(() => nodes.map(({ port }) => port), 8, 'one.test');
  t.after(() => load.stop());
  const begun = Date.now();
  await bounded(load.more(160), 20_000, () => nodes[0]?.output() ?? '');
  await load.stop();
  await oneFateEach(nodes, load.acknowledged, 30_000);
  const seconds = (Date.now() - begun) / 1000;
  const rate = load.acknowledged.length / seconds;
  t.diagnostic(`${load.acknowledged.length} messages in ${seconds.toFixed(1)} s: ${rate.toFixed(1)}/s`);
  assert.ok(rate <= 40 * 1.15, `${rate.toFixed(1)} messages a second`);
  assert.ok(rate >= 40 * 0.6, `${rate.toFixed(1)} messages a second`);
});

test('connections to one destination hold over the nodes', { skip, timeout: 60_000 }, async (t) => {
  const { access } = await sharedServer();
  const redis = await startRedis(t);
  const sink = await startSink(t, { delays: { data: 20 } });
  const settings = {
    database: { driver: 'mysql', ...access },
    scheduler: scheduler(redis),
    lease_ms: 120_000,
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      backlog_per_connection: 1,
      max_cluster_connections_per_destination: 4,
    },
  };
  const mail = sharedFolder(t);
  const nodes = [await startNode(t, 'a', mail, settings), await startNode(t, 'b', mail, settings)];
  for (const node of nodes) await untilRedis(node, true);
  const load = new SteadyLoad(() => nodes.map(({ port }) => port), 8, 'one.test');
  t.after(() => load.stop());
  await bounded(load.more(300), 30_000, () => nodes[0]?.output() ?? '');
  await load.stop();
  await oneFateEach(nodes, load.acknowledged, 30_000);
  assert.equal(sink.peakConnections, 4);
  for (const node of nodes) {
    node.events.read();
    assert.ok(
      node.events.events.some(({ type }) => type === 'delivered'),
      'both deliver',
    );
  }
});

test('claiming and settling a backlog over Redis: at least 50 recipients a statement', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const redis = await startRedis(t);
  await fewStatements(t, 5000, { ...scheduler(redis), poll_interval_ms: 1000 });
});
