/** after_journal on real servers: mail is acknowledged whatever they do, and all of it meets one fate. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JournalAnswer, StatsAnswer } from '../../src/control/stats-answer.ts';
import { type DatabaseAccess, type MariaDb, skipWithoutMariaDb } from '../services/mariadb.ts';
import { fatesOf } from '../support/fates.ts';
import { oneShard, sharedServer, startSink } from '../support/nodes.ts';
import { deliveries, oneFateEach } from '../support/one-fate.ts';
import { bounded, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import type { ScriptedSink } from '../support/scripted-sink.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { Talk } from '../support/talk.ts';

const skip = skipWithoutMariaDb();
const MIB = 1_048_576;

interface World {
  server: MariaDb;
  access: DatabaseAccess;
  sink: ScriptedSink;
  relay: RelayFixture;
}

async function startWorld(t: TestContext, settings: Settings = {}): Promise<World> {
  const { server, access } = await sharedServer();
  const sink = await startSink(t);
  const relay = new RelayFixture({
    node_id: 'a',
    inbound_ack_mode: 'after_journal',
    database: oneShard(access, { connection_timeout_ms: 1000, query_timeout_ms: 3000 }),
    storage: { provider: 'local' },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    session_threads: 1,
    delivery_threads: 1,
    scheduler: { poll_interval_ms: 100 },
    ...settings,
  });
  t.after(() => relay.destroy());
  return { server, access, sink, relay };
}

async function journalOf(relay: RelayFixture): Promise<JournalAnswer> {
  // Also while its shard is away.
  const { answer } = await relay.queuePartJson<{ journal: JournalAnswer }>('stats');
  return answer.journal;
}

async function untilDrained(relay: RelayFixture, withinMs = 30_000): Promise<void> {
  const until = Date.now() + withinMs;
  while ((await journalOf(relay)).waiting_messages > 0) {
    if (Date.now() > until) assert.fail(`not drained:\n${relay.output()}`);
    await sleep(100);
  }
}

test('mail is acknowledged from the journal, drained, delivered; what is done with is deleted', {
  skip,
}, async (t) => {
  const { relay, sink } = await startWorld(t);
  await relay.start();
  const load = new SteadyLoad(() => [relay.port], 10, 'one.test');
  t.after(() => load.stop());
  await bounded(load.more(500), 20_000, () => relay.output());
  await load.stop();
  assert.deepEqual(load.refused, []);
  await oneFateEach([relay], load.acknowledged, 20_000);
  await untilDrained(relay);
  assert.deepEqual([...new Set(deliveries(sink).values())], [1]);
  const text = (await relay.queue('stats')).stdout;
  assert.match(text, /^Journal +0 messages to drain \(.* of 4\.0G\)$/m);
  assert.equal((await relay.stop()).code, 0);
});

test('MariaDB stopped under load: every answer is 250, and after its restart each recipient meets one fate', {
  skip,
}, async (t) => {
  const { relay, server, sink } = await startWorld(t);
  await relay.start();
  const load = new SteadyLoad(() => [relay.port], 10, 'one.test');
  t.after(() => load.stop());
  await bounded(load.more(200), 20_000, () => relay.output());
  for (const end of ['kill', 'pause'] as const) {
    const failing = relay.logLine('journal.cannot_drain');
    if (end === 'kill') await server.kill();
    else server.pause();
    await bounded(load.more(500), 20_000, () => `no mail taken without the server:\n${relay.output()}`);
    await failing;
    await bounded(load.more(300), 20_000, () => `no mail taken without the server:\n${relay.output()}`);
    const { waiting_messages: waiting, shards } = await journalOf(relay);
    assert.ok(waiting >= 300, `${waiting} wait`);
    assert.notEqual(shards[0]?.error, null);
    const text = (await relay.queue('stats')).stdout;
    if (end === 'kill') assert.match(text, /^Not drained \d+ messages for shard s0: /m);
    const drains = relay.logLine('journal.drains');
    if (end === 'kill') await server.start();
    else server.resume();
    await drains;
  }
  await load.stop();
  assert.deepEqual(load.refused, [], 'nothing was refused');
  await oneFateEach([relay], load.acknowledged, 60_000);
  const twice = [...deliveries(sink).values()].filter((count) => count > 1).length;
  assert.ok(twice <= 100, `${twice} twice: more than could be under way when the server was killed`);
});

test('kill -9 again and again, with the server running and stopped: nothing acknowledged is lost', {
  skip,
}, async (t) => {
  const { relay, server, sink } = await startWorld(t);
  await relay.start();
  const load = new SteadyLoad(() => [relay.port], 10, 'one.test');
  t.after(() => load.stop());
  let kills = 0;
  for (const stopped of [false, true, true, false]) {
    await bounded(load.more(150), 30_000, () => relay.output());
    if (stopped) {
      const failing = relay.logLine('journal.cannot_drain');
      await server.kill();
      await bounded(load.more(200), 20_000, () => relay.output());
      await failing;
    }
    await relay.kill();
    kills++;
    // It starts and takes mail without any server.
    await relay.start();
    if (!stopped) continue;
    await bounded(load.more(100), 20_000, () => `no mail taken without a server:\n${relay.output()}`);
    await relay.kill();
    kills++;
    await server.start();
    await relay.start();
  }
  await bounded(load.more(100), 30_000, () => relay.output());
  await load.stop();
  // One that was out alone in the moment of a kill is held (docs/operations.md).
  await untilDrained(relay, 60_000);
  await relay.queue('release', '--state', 'held');
  await oneFateEachKilled(relay, sink, load.acknowledged);
  const extra = [...deliveries(sink).values()].reduce((sum, count) => sum + count - 1, 0);
  // Results that were not written down yet when the process was killed.
  assert.ok(extra <= kills * 400, `${extra} duplicates in ${kills} kills`);
});

/** Waits until nothing is left, then looks for what is lost, and for what was settled twice. */
async function oneFateEachKilled(
  relay: RelayFixture,
  sink: ScriptedSink,
  recipients: string[],
): Promise<void> {
  await untilDrained(relay, 60_000);
  const until = Date.now() + 60_000;
  for (;;) {
    const { code, answer } = await relay.queuePartJson<StatsAnswer>('stats');
    const waiting = Object.values(answer.queue.entries).reduce((sum, entries) => sum + entries, 0);
    if (waiting === 0 && code === 0) break;
    if (Date.now() > until) assert.fail(`${waiting} entries wait:\n${relay.output()}`);
    await sleep(100);
  }
  relay.events.read();
  const fates = [...fatesOf(relay.events.events)];
  // What was delivered and not recorded is delivered again (I6), but nothing is settled twice.
  assert.deepEqual(
    fates.filter(([, types]) => types.length !== 1 || types[0] !== 'delivered'),
    [],
  );
  // Events of a killed relay may be lost with it.
  const met = new Set(fates.map(([key]) => key.split(' ')[1]));
  const without = recipients.filter((recipient) => !met.has(recipient));
  assert.deepEqual(
    without.filter((recipient) => !deliveries(sink).has(recipient)),
    [],
    'neither an event nor a delivery',
  );
}

test('a journal that is full refuses with 452 4.3.1, and takes mail again when it has drained', {
  skip,
}, async (t) => {
  const { relay, server } = await startWorld(t, {
    max_message_size: 8 * MIB,
    journal: { max_mb: 64, segment_mb: 2, max_delay_ms: 0 },
  });
  await relay.start();
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await server.kill();
  const body = `${'x'.repeat(70)}\r\n`.repeat(90_000);
  const accepted: string[] = [];
  const full = relay.logLine('journal.full');
  let refusal = '';
  for (let i = 0; i < 20 && refusal === ''; i++) {
    const to = `r${i}@one.test`;
    const reply = await talk.send({ to, content: body }).catch((error: Error) => error.message);
    if (reply.startsWith('250')) accepted.push(to);
    else refusal = reply;
    await sleep(300); // pressure is measured four times a second
  }
  await full;
  assert.match(refusal, /452 4\.3\.1 Journal is full/);
  assert.ok(accepted.length >= 5, `${accepted.length} of 6 MB in 64 MB`);
  const room = relay.logLine('journal.has_room', undefined, 30_000);
  const ended = relay.logLine('pressure.ended', undefined, 30_000);
  await server.start();
  await room;
  await ended;
  const more = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await more.accepted({ to: 'later@one.test' });
  await oneFateEach([relay], [...accepted, 'later@one.test'], 30_000);
  await untilDrained(relay);
  const { size_bytes: bytes } = await journalOf(relay);
  assert.ok(bytes <= 3 * MIB, `${bytes} bytes stay`);
});

test('SIGTERM drains what can be drained; the rest is replayed, also when the ack mode was changed back', {
  skip,
}, async (t) => {
  const { relay, server, access } = await startWorld(t, {
    delivery: { enabled: false },
    shutdown_grace_ms: 2000,
  });
  await relay.start();
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  for (let i = 0; i < 5; i++) await talk.accepted({ to: `a${i}@one.test` });
  assert.equal((await relay.stop()).code, 0);
  const mails = async (): Promise<number> => {
    const [row] = await server.query<{ n: bigint }[]>(`SELECT COUNT(*) AS n FROM ${access.database}.mails`);
    return Number(row?.n);
  };
  assert.equal(await mails(), 5, 'drained within the grace');
  await relay.start();
  const again = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await server.kill();
  for (let i = 0; i < 5; i++) await again.accepted({ to: `b${i}@one.test` });
  assert.equal((await relay.stop()).code, 0, 'a server that is away does not hold up the end');
  await server.start();
  relay.configure({ inbound_ack_mode: 'after_persist' });
  await relay.start();
  await untilDrained(relay);
  assert.equal(await mails(), 10);
  const direct = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await direct.accepted({ to: 'c@one.test' });
  assert.equal(await mails(), 11, 'not by the journal any more');
  assert.equal((await relay.stop()).code, 0);
  assert.deepEqual(readdirSync(join(relay.dataDir, 'journal')), [], 'nothing of it stays');
});

test('with fewer processes the journal of one that is gone is drained, and its folder goes', {
  skip,
}, async (t) => {
  const { relay, server, access } = await startWorld(t, {
    delivery: { enabled: false },
    accept_processes: 2,
  });
  await relay.start();
  const folder = join(relay.dataDir, 'process-1', 'journal');
  await server.kill();
  const load = new SteadyLoad(() => [relay.port], 10, 'one.test');
  t.after(() => load.stop());
  const inSecond = (): number => (existsSync(folder) ? readdirSync(folder).length : 0);
  await bounded(load.more(200), 20_000, () => relay.output());
  await load.stop();
  assert.ok(inSecond() >= 2, 'the second process has a journal');
  const journal = await journalOf(relay);
  assert.equal(journal.waiting_messages, load.acknowledged.length, 'both are counted');
  await relay.kill();
  await server.start();
  relay.configure({ accept_processes: 1 });
  await relay.start();
  await untilDrained(relay);
  const [row] = await server.query<{ n: bigint }[]>(`SELECT COUNT(*) AS n FROM ${access.database}.mails`);
  assert.ok(Number(row?.n) >= load.acknowledged.length);
  const until = Date.now() + 20_000;
  while (existsSync(folder)) {
    assert.ok(Date.now() < until, `${folder} stays: ${readdirSync(folder).join()}\n${relay.output()}`);
    await sleep(100);
  }
});

test('what cannot be drained with a config ends the start and says why', { skip }, async (t) => {
  const { relay, server, access } = await startWorld(t, { delivery: { enabled: false } });
  const { access: other } = await sharedServer();
  const shards = (...names: string[]) => ({
    driver: 'mysql_distributed',
    shards: names.map((name, i) => ({ name, id: Number(name.slice(1)), ...(i === 0 ? access : other) })),
  });
  relay.writeConfig({ ...relay.settings, database: shards('s0', 's1') });
  await relay.start();
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await server.kill();
  for (let i = 0; i < 20; i++) await talk.accepted({ to: `a${i}@one.test` });
  await relay.kill();
  await server.start();
  const startFails = async (database: object, reason: RegExp, more: Settings = {}): Promise<void> => {
    relay.writeConfig({ ...relay.settings, ...more, database });
    relay.launch();
    assert.equal((await relay.exited()).code, 78);
    assert.match(relay.stderr, reason);
  };
  await startFails(
    shards('s0'),
    /messages in the journal .* wait for shard 1, which the config does not have/,
  );
  const sqlite = { inbound_ack_mode: 'after_persist', storage: { provider: 'database' } };
  await startFails({ driver: 'sqlite' }, /journal .* holds mail for the servers of a mysql driver/, sqlite);
  const back = { inbound_ack_mode: 'after_journal', storage: { provider: 'local' } };
  relay.writeConfig({ ...relay.settings, ...back, database: shards('s0', 's1') });
  await relay.start();
  await untilDrained(relay);
});
