/**
 * What the log says while things go wrong and right again: a relay of two processes on two shards and Redis, under load.
 * Each phase has its lines, each said once by whom it concerns, and none a message.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SchedulerAnswer } from '../../src/control/stats-answer.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { CommitProxy } from '../services/commit-proxy.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { sharedFolder, startSink } from '../support/nodes.ts';
import { deliveries } from '../support/one-fate.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { eventually, until } from '../support/wait.ts';

const skip = skipWithoutMariaDb() || skipWithoutRedis();

interface Line extends Record<string, unknown> {
  level: string;
  event: string;
}

/** `LEVEL EVENT`, with the process where it is one's, and how often. */
function tally(lines: readonly Line[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { level, event, process } of lines) {
    const name = `${level} ${event}${process === undefined ? '' : ` ${process}`}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

const ofBoth = (...names: string[]): Record<string, number> =>
  Object.fromEntries(names.flatMap((name) => [`${name} 0`, `${name} 1`]).map((name) => [name, 1]));

test('a start, a shard and Redis that go and return, a process that dies, and the end', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const server = await MariaDb.start();
  t.after(() => server.close());
  const accesses = [await server.createDatabase(), await server.createDatabase()];
  for (const access of accesses) await migrate(serverConfig(server.admin(access)), Date.now());
  const proxy = await CommitProxy.start(server.port);
  t.after(() => proxy.close());
  const redis = await RedisServer.start();
  t.after(() => redis.close());
  const sink = await startSink(t);
  const relay = new RelayFixture({
    node_id: 'mx1',
    postmaster: 'ops@home.test',
    accept_processes: 2,
    session_threads: 1,
    delivery_threads: 1,
    supervisor: { restart_delay_ms: 100 },
    storage: { provider: 'local', local: { path: sharedFolder(t) } },
    database: {
      driver: 'mysql_distributed',
      retry_delay_ms: 100,
      max_retry_delay_ms: 300,
      shards: accesses.map((access, i) => ({
        name: `s${i}`,
        ...access,
        ...(i === 1 ? { port: proxy.port } : {}),
      })),
    },
    scheduler: { engine: 'bullmq', redis: { url: redis.url, timeout_ms: 500 } },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  t.after(() => relay.destroy());

  let from = 0;
  const lines = (): Line[] =>
    (relay.log as Line[]).slice(from).filter(({ event }) => event !== 'session.refused');
  const count = (event: string): number => lines().filter((line) => line.event === event).length;
  /** The phase is over: these lines it must have, those it may, and the words none of them has. */
  const over = (must: Record<string, number>, may: Record<string, number> = {}, no = /$^/): void => {
    const said = tally(lines());
    // Made beside the start, by one process of the host.
    delete said['info suppression.filter_made 0'];
    for (const [name, most] of Object.entries(may)) {
      assert.ok((said[name] ?? 0) <= most, `${name}: ${said[name]} times`);
      delete said[name];
    }
    assert.deepEqual(said, must, JSON.stringify(lines(), null, 1));
    for (const line of lines()) assert.doesNotMatch(JSON.stringify(line), no);
    from = relay.log.length;
  };
  const processesInRedis = async (): Promise<number | undefined> =>
    (await relay.queueJson<{ scheduler: SchedulerAnswer }>('stats')).scheduler.cluster?.processes;

  await relay.start();
  await until(() => count('scheduler.redis_up') === 2, 'both use Redis');
  over({
    'info relay.starting': 1,
    'info supervisor.starting': 1,
    'info policy.redis_up': 1,
    'info relay.ready': 1,
    ...ofBoth('info relay.recovered', 'info process.ready', 'info scheduler.redis_up'),
  });
  const load = new SteadyLoad(() => [relay.port], 8, 'one.test', 1);
  t.after(() => load.stop());
  await load.more(100);
  over({});

  // What was under way at the one moment, or waits for longer than 2 s at the other.
  const outage = Object.fromEntries(
    [0, 1].flatMap((process) => [
      [`error commit.failed ${process}`, 3],
      [`error scheduler.claim_failed ${process}`, 1],
      [`warn results.kept ${process}`, 1],
      [`info results.written ${process}`, 1],
    ]),
  );
  proxy.goAway();
  await until(() => count('shard.down') === 2, 'both know that the shard is down');
  await load.more(200);
  over(ofBoth('warn shard.down'), outage, /redis/i);
  proxy.comeBack();
  await until(() => count('shard.up') === 2, 'both use the shard');
  await load.more(100);
  over(ofBoth('info shard.up'), outage, /redis/i);

  await redis.stop();
  await until(() => count('scheduler.redis_lost') + count('policy.redis_lost') === 3, 'all miss Redis');
  await load.more(100);
  over({ 'warn policy.redis_lost': 1, ...ofBoth('warn scheduler.redis_lost') }, {}, /shard/);
  await redis.start();
  await until(() => count('scheduler.redis_up') + count('policy.redis_up') === 3, 'all use Redis');
  over({ 'info policy.redis_up': 1, ...ofBoth('info scheduler.redis_up') }, {}, /shard/);
  await eventually(async () => assert.equal(await processesInRedis(), 2));

  const { processes } = await relay.queueJson<{ processes: { process: number; pid: number }[] }>('stats');
  process.kill(processes.find((one) => one.process === 1)?.pid ?? assert.fail(), 'SIGKILL');
  await until(() => count('scheduler.redis_up') === 1, 'its next life uses Redis');
  assert.equal(lines().find(({ event }) => event === 'scheduler.redis_up')?.processes, 2);
  over(
    {
      'error process.ended 1': 1,
      'info relay.recovered 1': 1,
      'info process.ready 1': 1,
      'info scheduler.redis_up 1': 1,
    },
    // Each row that a connection had begun with.
    { 'warn poison.suspected 1': 20 },
  );
  // Its earlier life counts no more, for neither.
  assert.equal(await processesInRedis(), 2);
  await load.stop();
  await until(() => deliveries(sink).size >= load.acknowledged.length, 'all is delivered', 20_000);
  over({});

  assert.deepEqual(await relay.stop(), { code: 0, signal: null });
  over({ 'info relay.draining': 1, 'info relay.stopped': 1, ...ofBoth('info process.ended') });
});
