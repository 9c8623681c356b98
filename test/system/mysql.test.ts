/** Relays on MariaDB: one, several that share a queue, and several servers that hold it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '../../src/database/mysql/schema.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { run } from '../support/child.ts';
import { fate } from '../support/fates.ts';
import {
  fewStatements,
  LEASE_MS,
  oneShard,
  sharedFolder,
  sharedServer,
  startNode,
  startServer,
  startSink,
} from '../support/nodes.ts';
import { deliveries, oneFateEach } from '../support/one-fate.ts';
import { bounded, MAIN, RelayFixture } from '../support/relay-fixture.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { Talk } from '../support/talk.ts';

const skip = skipWithoutMariaDb();

test('config/mysql.json: refused before db migrate, then it runs, and db shards reports', {
  skip,
}, async (t) => {
  const server = await MariaDb.start();
  t.after(() => server.close());
  const access = await server.createDatabase();
  const sink = await startSink(t);
  const folder = mkdtempSync(join(tmpdir(), 'mysql-json-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const example = join(import.meta.dirname, '../../config/mysql.json');
  const relay = new RelayFixture({}, { dir: folder, env: { RELAY_DB_PASSWORD: access.password } });
  t.after(() => relay.destroy());
  relay.writeConfig({
    include: [example],
    data_dir: 'data',
    database: { port: access.port, database: access.database, idle_timeout_ms: 500, initial_pool_size: 1 },
    listeners: [{ host: '127.0.0.1', port: 0 }],
    persist_min_available_memory_mb: 64,
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, refuse_loopback_mx: false },
    log: { format: 'json' },
  });
  const env = { RELAY_DB_PASSWORD: access.password, DBA: server.admin(access).password };
  const cli = (...args: string[]) =>
    run(process.execPath, [MAIN, '-c', relay.configPath, 'db', ...args], { env });

  relay.launch();
  assert.equal((await relay.exited()).code, 65);
  assert.match(relay.stderr, /no tables of a relay: run "protorelay db migrate"/);
  const denied = await cli('migrate');
  assert.equal(denied.code, 69);
  assert.match(denied.stderr, /CREATE command denied/);
  const migrated = await cli('migrate', '--user', 'admin', '--password-env', 'DBA');
  assert.equal(migrated.code, 0, migrated.stderr);
  assert.match(migrated.stdout, /mysql: migrated to version \d/);
  assert.match((await cli('migrate')).stdout, /up to date/);

  await relay.start();
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  const queueId = await talk.accepted({ to: 'a@one.test' });
  assert.equal(queueId.at(-1), '0', 'shard 0');
  await fate(relay.events, 'a@one.test', 'delivered');
  const running = await cli('shards');
  assert.equal(running.code, 0, running.stderr);
  assert.match(running.stdout, /mysql +0 +1 +up/);
  await relay.stop();
  const stopped = JSON.parse((await cli('shards', '--json')).stdout) as {
    up: boolean;
    waiting_entries: number;
  }[];
  assert.deepEqual(
    stopped.map(({ up, waiting_entries }) => [up, waiting_entries]),
    [[true, 0]],
  );
  const stats = await run(process.execPath, [MAIN, '-c', relay.configPath, 'queue', 'stats'], { env });
  assert.equal(stats.code, 0, `the queue of a stopped relay is read from the server: ${stats.stderr}`);
  await server.stop();
  assert.equal((await cli('shards')).code, 75);
});

test('a node killed while it sends: another takes its rows over, one fate each', { skip }, async (t) => {
  const { access } = await sharedServer();
  const sink = await startSink(t);
  const settings = {
    database: oneShard(access),
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, max_connections_per_destination: 4 },
  };
  const mail = sharedFolder(t);
  const [a, b] = [await startNode(t, 'a', mail, settings), await startNode(t, 'b', mail, settings)];
  const talk = await Talk.hello({ host: '127.0.0.1', port: a.port });
  const recipients = Array.from({ length: 40 }, (_, i) => `slow-400+${i}@one.test`);
  for (const to of recipients) await talk.accepted({ to });
  await sink.received(4);
  await a.kill();
  await oneFateEach([a, b], recipients, LEASE_MS + 20_000, { sink, atMost: 4 });
  const extra = [...deliveries(sink).values()].reduce((sum, n) => sum + n - 1, 0);
  assert.ok(
    extra <= 8,
    `${extra} duplicates: more than could be between the sink's 250 and our record of it`,
  );
  assert.ok(
    b.events.events.some(({ type }) => type === 'delivered'),
    'the other node sent some',
  );
});

test('a node stopped past its lease sends nothing when it goes on', { skip }, async (t) => {
  const { access } = await sharedServer();
  const sink = await startSink(t, { delays: { data: 2500 } });
  const settings = {
    database: oneShard(access),
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, max_connections_per_destination: 10 },
  };
  const mail = sharedFolder(t);
  const [a, b] = [await startNode(t, 'a', mail, settings), await startNode(t, 'b', mail, settings)];
  const talk = await Talk.hello({ host: '127.0.0.1', port: a.port });
  const recipients = Array.from({ length: 10 }, (_, i) => `r${i}@one.test`);
  for (const to of recipients) await talk.accepted({ to });
  await sink.until(() => sink.connections > 0);
  a.signal('SIGSTOP');
  sink.options.delays = {};
  await oneFateEach([b], recipients, LEASE_MS + 20_000);
  const lapsed = a.logLine('leases.lapsed');
  a.signal('SIGCONT');
  await lapsed;
  // What it had under way is over when all its places are free again.
  const idle = async (): Promise<boolean> => {
    const { answer } = await a.queuePartJson<{ scheduler: { sending_entries: number } }>('stats');
    return answer.scheduler.sending_entries === 0;
  };
  while (!(await idle())) await sleep(100);
  assert.deepEqual(
    [...deliveries(sink).values()],
    recipients.map(() => 1),
    'nobody got it twice',
  );
  await oneFateEach([a, b], recipients, 1000);
  const more = await Talk.hello({ host: '127.0.0.1', port: a.port });
  await more.accepted({ to: 'later@one.test' });
  await fate(a.events, 'later@one.test', 'delivered');
});

test('a lease is renewed for as long as a delivery takes', { skip }, async (t) => {
  const { access } = await sharedServer();
  const sink = await startSink(t);
  const settings = {
    database: oneShard(access),
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  };
  const mail = sharedFolder(t);
  const [a, b] = [await startNode(t, 'a', mail, settings), await startNode(t, 'b', mail, settings)];
  const talk = await Talk.hello({ host: '127.0.0.1', port: a.port });
  await talk.accepted({ to: `slow-${3 * LEASE_MS}@one.test` });
  await fate(a.events, `slow-${3 * LEASE_MS}@one.test`, 'delivered');
  assert.equal(sink.messages.length, 1);
  b.events.read();
  assert.deepEqual(
    b.events.events.filter(({ type }) => type === 'delivered'),
    [],
  );
});

test('MariaDB killed and started again under load: nothing acknowledged is lost', { skip }, async (t) => {
  const { server, access } = await startServer(t);
  const sink = await startSink(t);
  const relay = await startNode(t, 'a', sharedFolder(t), {
    database: { driver: 'mysql', ...access },
    lease_ms: 120_000,
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  const load = new SteadyLoad(() => [relay.port], 10, 'one.test');
  t.after(() => load.stop());
  for (const end of ['kill', 'stop'] as const) {
    await bounded(load.more(200), 20_000, () => relay.output());
    await server[end]();
    await sleep(1500);
    await server.start();
    await bounded(load.more(200), 20_000, () => `no mail taken after the server is back:\n${relay.output()}`);
  }
  await load.stop();
  assert.deepEqual(
    load.refused.filter((reply) => !/^(4|$|connect|MAIL|RCPT)/.test(reply)),
    [],
  );
  await oneFateEach([relay], load.acknowledged, 30_000);
});

test('one of two shards killed under load: the other serves on, and all are delivered', {
  skip,
}, async (t) => {
  const [first, second] = [await startServer(t), await startServer(t)];
  const sink = await startSink(t);
  const relay = await startNode(t, 'a', sharedFolder(t), {
    database: {
      driver: 'mysql_distributed',
      router: { type: 'hash' },
      retry_delay_ms: 200,
      max_retry_delay_ms: 1000,
      shards: [
        { name: 's0', weight: 1, ...first.access, connection_timeout_ms: 1000 },
        { name: 's1', weight: 1, ...second.access, connection_timeout_ms: 1000 },
      ],
    },
    lease_ms: 120_000,
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  const load = new SteadyLoad(() => [relay.port], 10, 'one.test');
  t.after(() => load.stop());
  for (const away of ['kill', 'pause'] as const) {
    await bounded(load.more(200), 20_000, () => relay.output());
    const down = relay.logLine('shard.down', (line) => line.shard === 's1');
    if (away === 'kill') await second.server.kill();
    else second.server.pause();
    await down;
    const refused = load.refused.length;
    await bounded(load.more(400), 20_000, () => `no mail taken without the shard:\n${relay.output()}`);
    assert.equal(
      load.refused.length - refused <= 20,
      true,
      'only what was on its way to the shard is refused',
    );
    const report = await run(process.execPath, [MAIN, '-c', relay.configPath, 'db', 'shards']);
    assert.equal(report.code, 75);
    assert.match(report.stdout, /s0 +0 +1 +up[\s\S]*s1 +1 +1 +down/);
    const up = relay.logLine('shard.up', (line) => line.shard === 's1');
    if (away === 'kill') await second.server.start();
    else second.server.resume();
    await up;
  }
  await bounded(load.more(200), 20_000, () => relay.output());
  await load.stop();
  await oneFateEach([relay], load.acknowledged, 30_000);
  assert.deepEqual(
    load.refused.filter((reply) => reply !== '' && !/^4/.test(reply)),
    [],
    'refusals are temporary',
  );
});

test('router table: a user’s mail goes to the shard user_shards names, others by hash', {
  skip,
}, async (t) => {
  const server = await MariaDb.start();
  t.after(() => server.close());
  const shards = [await server.createDatabase(), await server.createDatabase()];
  for (const access of shards) await migrate(serverConfig(server.admin(access)), Date.now());
  await server.query(`INSERT INTO ${shards[0]?.database}.user_shards VALUES ('boss@one.test', 'second')`);
  const relay = await startNode(t, 'a', sharedFolder(t), {
    database: {
      driver: 'mysql_distributed',
      router: { type: 'table', table_shard: 'first', cache_ttl_ms: 60_000 },
      shards: [
        { name: 'first', ...shards[0] },
        { name: 'second', ...shards[1] },
      ],
    },
    delivery: { enabled: false },
  });
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  const shardOf = async (from: string): Promise<string | undefined> =>
    (await talk.accepted({ from, to: 'x@two.test' })).at(-1);
  await shardOf('Boss@one.test');
  for (let i = 0; i < 10; i++) assert.equal(await shardOf('boss@one.test'), '1');
  const others = new Set<string | undefined>();
  for (let i = 0; i < 30; i++) others.add(await shardOf(`u${i}@one.test`));
  assert.deepEqual([...others].sort(), ['0', '1']);
  const { queue } = await relay.queueJson<{ queue: { messages: number } }>('stats');
  assert.equal(queue.messages, 41);
});

test('claiming and settling a backlog: at least 50 recipients a statement', { skip }, async (t) => {
  await fewStatements(t, 3000, { poll_interval_ms: 60_000 });
});

test('a config that cannot work with servers is refused, each fault named', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mysql-config-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'relay.json');
  writeFileSync(path, JSON.stringify({ database: { driver: 'mysql', path: 'queue.db' } }));
  const wrongKey = await run(process.execPath, [MAIN, 'config', 'check', path]);
  assert.equal(wrongKey.code, 78);
  assert.match(wrongKey.stdout, /database\.path: is not a key of this driver/);
  writeFileSync(path, JSON.stringify({ database: { driver: 'mysql' } }));
  const { stdout } = await run(process.execPath, [MAIN, 'config', 'check', path]);
  assert.match(stdout, /set node_id/);
  assert.match(stdout, /set storage\.provider to "local"/);
});
