/** Rules of operators on nodes that share a queue: two servers, one of which goes away, and Redis. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { fate } from '../support/fates.ts';
import { sharedFolder, startNode, startServer, startSink } from '../support/nodes.ts';
import { oneFateEach } from '../support/one-fate.ts';
import type { RelayFixture, Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

async function deposit(relay: RelayFixture, ...to: string[]): Promise<void> {
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  for (const one of to) await talk.accepted({ to: one });
  await talk.quit();
}

async function command(relay: RelayFixture, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await relay.command(...args);
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

const ids = (prefix: string, domain: string): string[] =>
  Array.from({ length: 6 }, (_, i) => `${prefix}${i}@${domain}`);

test('a rule of one node holds on the other, over restarts and while a server is away', {
  skip: skipWithoutMariaDb() || skipWithoutRedis(),
  timeout: 120_000,
}, async (t) => {
  const [s0, s1] = await Promise.all([startServer(t), startServer(t)]);
  const redis = await RedisServer.start({});
  t.after(() => redis.close());
  const sink = await startSink(t);
  const next = { host: '127.0.0.1', port: sink.port };
  const settings: Settings = {
    database: {
      driver: 'mysql_distributed',
      shards: [
        { name: 's0', ...s0.access },
        { name: 's1', ...s1.access },
      ],
      retry_delay_ms: 100,
      max_retry_delay_ms: 500,
    },
    scheduler: { engine: 'bullmq', poll_interval_ms: 100, redis: { url: redis.url, timeout_ms: 500 } },
    delivery: { smarthost: next, routes: { 'own.test': next } },
  };
  const mail = sharedFolder(t);
  const a = await startNode(t, 'a', mail, settings);
  const b = await startNode(t, 'b', mail, settings);
  const got = (domain: string): number =>
    sink.messages.filter(({ recipients }) => recipients.some(({ address }) => address.endsWith(domain)))
      .length;

  const begun = b.logLine('suspensions.begun');
  const orderedMs = performance.now();
  await command(a, 'suspend', '--destination', 'own.test', '--reason', 'on both');
  await begun;
  t.diagnostic(
    `the other node follows ${(performance.now() - orderedMs).toFixed(0)} ms after the command began`,
  );
  const held = [...ids('a', 'own.test'), ...ids('b', 'own.test')];
  await deposit(a, ...held.slice(0, 6));
  await deposit(b, ...held.slice(6), 'free@else.test');
  await fate(b.events, 'free@else.test', 'delivered');

  const { scheduler } = await a.queueJson<{ scheduler: { waiting_entries: number } }>('stats');
  assert.equal(scheduler.waiting_entries, held.length, 'also what the other node took in');

  // The server goes away: a further rule is told to the other one, and this one hears of it later.
  await s1.server.kill();
  const told = await a.command('suspend', '--sender', '*@client.test', '--domain', 'else.test', '--json');
  assert.equal(told.code, 75, told.stderr);
  assert.match(told.stderr, /not told yet: shard s1/);
  assert.deepEqual(JSON.parse(told.stdout).not_told, ['shard s1']);
  const resumed = await a.command('resume', 'none', '--json');
  assert.deepEqual(JSON.parse(resumed.stdout), { resumed: [], unknown: ['none'], not_told: [] });
  await b.kill();
  await b.start();
  assert.match(await command(b, 'suspensions'), /destination own\.test.*\n.*domain else\.test and sender/);
  await deposit(b, 'apart@else.test');
  await fate(b.events, 'apart@else.test', 'deferred');
  await s1.server.start();
  await deposit(a, 'late@own.test');
  assert.deepEqual([got('@own.test'), got('apart@else.test')], [0, 0]);

  await b.stop();
  assert.match(await command(b, 'suspensions'), /own\.test/, 'a node that does not run asks the servers');
  const ended = a.logLine('suspensions.ended');
  await command(b, 'resume', '--all-rules');
  await ended;
  await oneFateEach([a, b], [...held, 'late@own.test', 'apart@else.test'], 30_000);
  assert.equal(got('@own.test'), held.length + 1);
});
