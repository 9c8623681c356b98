/** Relay processes of one host that share a queue on MariaDB and content in replicas. */
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { type TestContext, test } from 'node:test';
import type { EntryAnswer } from '../../src/control/queue-answers.ts';
import type { ShardAnswer } from '../../src/control/shard-answer.ts';
import type { StatsAnswer } from '../../src/control/stats-answer.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { createArena } from '../../src/native.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { filesBelow, rootsIn } from '../storage/providers.ts';
import { Load, pidOf, processesOf, startSink } from '../supervisor/processes.ts';
import { run } from '../support/child.ts';
import { fate, fatesOf } from '../support/fates.ts';
import { MAIN, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const skip = skipWithoutMariaDb();
const PROCESSES = 2;

interface World {
  relay: RelayFixture;
  roots: string[];
}

async function start(t: TestContext, settings: Settings): Promise<World> {
  const server = await MariaDb.start();
  t.after(() => server.close());
  const access = await server.createDatabase();
  await migrate(serverConfig(server.admin(access)), Date.now());
  const relay = new RelayFixture({
    accept_processes: PROCESSES,
    node_id: 'host',
    database: { driver: 'mysql', ...access },
    lease_ms: 5000,
    scheduler: { poll_interval_ms: 100 },
    queue: { keep_delivered_ms: 0 },
    ...settings,
  });
  t.after(() => relay.destroy());
  const roots = rootsIn(relay.dir, 3);
  relay.configure({
    storage: { provider: 'distributed', distributed: { roots, replica_count: 2, write_quorum: 2 } },
  });
  await relay.start();
  return { relay, roots };
}

/** Which process made the id: its slot, as in src/mail/queue-id.ts. */
const slotOf = ({ queue_id: queueId }: EntryAnswer): number =>
  [...queueId.slice(9, 12)].reduce((n, d) => n * 32 + '0123456789abcdefghjkmnpqrstvwxyz'.indexOf(d), 0) >> 7;

test('two processes on MariaDB: one queue for operators, each message in it once', {
  skip,
  timeout: 90_000,
}, async (t) => {
  const { relay, roots } = await start(t, { delivery: { enabled: false } });
  const entriesOf = (): Promise<EntryAnswer[]> => relay.queueEntries('--limit', '1000');
  const ids: string[] = [];
  do {
    const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
    ids.push(await talk.accepted({ to: `r${ids.length}@held.test`, content: `Subject: ${ids.length}\r\n` }));
    await talk.quit();
  } while (ids.length < 8 || new Set((await entriesOf()).map(slotOf)).size < PROCESSES);
  assert.deepEqual((await entriesOf()).map(({ queue_id }) => queue_id).sort(), [...ids].sort());
  assert.equal((await relay.queueJson<StatsAnswer>('stats')).queue.messages, ids.length);
  for (const [i, id] of ids.entries())
    assert.match((await relay.queue('cat', id)).stdout, new RegExp(`Subject: ${i}\\r?\\n`));

  const shards = await run(process.execPath, [MAIN, '-c', relay.configPath, 'db', 'shards', '--json']);
  const [shard] = JSON.parse(shards.stdout) as ShardAnswer[];
  assert.deepEqual([shard?.up, shard?.waiting_entries], [true, ids.length]);

  const [first, failed, rerouted] = ids as [string, string, string];
  await relay.queue('reroute', '--to', '127.0.0.1:1', rerouted);
  await relay.queue('fail', failed);
  await fate(relay.events, 'r1@held.test', 'bounced');
  const destinations = new Map((await entriesOf()).map((entry) => [entry.queue_id, entry.destination]));
  assert.deepEqual([destinations.get(first), destinations.get(rerouted)], ['held.test', 'via:127.0.0.1:1']);
  assert.match((await relay.queue('delete', first, failed)).stdout, /\b2\b/);
  // The report is among the others.
  assert.match((await relay.queue('delete', '--all')).stdout, new RegExp(`\\b${ids.length - 1}\\b`));
  assert.deepEqual(await entriesOf(), []);
  assert.deepEqual(await relay.stop(), { code: 0, signal: null }, relay.output());
  assert.match((await relay.queue('list')).stdout, /no entries/);
  await eventually(() => assert.deepEqual(roots.flatMap(filesBelow), []));
});

test('kill -9 of one process of two on MariaDB: what it was sending is sent, one fate each', {
  skip,
  timeout: 90_000,
}, async (t) => {
  const arena = createArena(32 << 20, tmpdir());
  const { sink, arrived } = startSink(t, arena);
  const { relay } = await start(t, {
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, max_handoff_messages: 50 },
    supervisor: { restart_delay_ms: 500 },
  });
  const load = new Load(t, relay.port, arena, { perConnection: true, rate: 300 });
  for (const victim of [1, 0]) {
    await load.more(200, relay);
    const back = relay.logLine('process.ready', (line) => line.process === victim, 30_000);
    process.kill(pidOf(relay, victim), 'SIGKILL');
    await back;
  }
  await load.more(100, relay);
  await load.end();
  await arrived(load.accepted);
  assert.equal(sink.report().corrupted, 0);
  assert.deepEqual(
    (await processesOf(relay)).map(({ state, restarts }) => `${state} ${restarts}`),
    ['ready 1', 'ready 1'],
  );
  await eventually(async () =>
    assert.equal((await relay.queueJson<StatsAnswer>('stats')).queue.entries.sending, 0),
  );
  relay.events.read();
  for (const [key, fates] of fatesOf(relay.events.events)) assert.equal(fates.length, 1, `${key}: ${fates}`);
});
