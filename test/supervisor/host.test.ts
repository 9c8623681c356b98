/** A relay of several processes as one: signals, limits, queues, sockets. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync, renameSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import type { EntryAnswer } from '../../src/control/queue-answers.ts';
import type { StatsAnswer } from '../../src/control/stats-answer.ts';
import type { StatusAnswer } from '../../src/control/status-answer.ts';
import { createArena } from '../../src/native.ts';
import type { Resource } from '../../src/policy/accounts.ts';
import { PolicyMemory, policySizes } from '../../src/policy/host-memory.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';
import { Load, Prober, pidOf, probe, processesOf, startSink } from './processes.ts';

const arena = createArena(32 << 20, tmpdir());
const local = (relay: RelayFixture) => ({ port: relay.port, host: '127.0.0.1' });
const held = { accept_processes: 2, delivery: { enabled: false } };

/** A message to `to`, on a connection of its own, so that the kernel picks the process. */
async function deposit(relay: RelayFixture, to: string): Promise<void> {
  const talk = await Talk.hello(local(relay));
  await talk.accepted({ to });
  await talk.quit();
}

/** Deposits until every process holds some; how many it took. */
async function depositEverywhere(relay: RelayFixture, domain: string, processes: number): Promise<number> {
  let count = 0;
  do {
    for (let i = 0; i < 4 * processes; i++) await deposit(relay, `r${count++}@${domain}`);
  } while (new Set((await entriesOf(relay)).map(originOf)).size < processes);
  return count;
}

const entriesOf = (relay: RelayFixture): Promise<EntryAnswer[]> => relay.queueEntries('--limit', '1000');

/** Which process made the id: digits 10 to 12 in base 32 (Crockford), 128 for each process. */
function originOf({ queue_id: queueId }: EntryAnswer): number {
  const digits = [...queueId.slice(9, 12)].map((d) => '0123456789abcdefghjkmnpqrstvwxyz'.indexOf(d));
  return Math.floor(digits.reduce((sum, digit) => sum * 32 + digit, 0) / 128);
}

test('reload one by one under load: not a connection is dropped or refused; a bad file changes nothing', {
  timeout: 90_000,
}, async (t) => {
  const relay = await RelayFixture.start(held);
  t.after(() => relay.destroy());
  const load = new Load(t, relay.port, arena, { perConnection: false, rate: 300 });
  const prober = new Prober(relay.port, 2);
  for (const size of [100_000, 200_000, 300_000]) {
    await load.more(100, relay);
    relay.configure({ max_message_size: size });
    const line = await relay.reload();
    assert.deepEqual(line.applied, ['max_message_size']);
    // Whichever process answers has it.
    for (let i = 0; i < 6; i++) {
      const talk = await Talk.hello(local(relay));
      assert.match(await talk.say(`MAIL FROM:<a@b.test> SIZE=${size + 1}`), /^552 5\.3\.4 /);
      await talk.quit();
    }
  }
  const good = relay.settings;
  relay.configure({ max_mesage_size: 5 });
  const refused = relay.logLine('relay.reload_refused');
  relay.signal('SIGHUP');
  assert.match(JSON.stringify(await refused), /max_mesage_size.*max_message_size/);
  relay.writeConfig(good);
  await load.more(100, relay);
  await load.end();
  await prober.end();
  assert.equal(load.client.failed, 0, 'messages that failed');
  assert.deepEqual([...new Set(prober.probes.map(({ result }) => result))], ['served']);
  const { queue } = await relay.queueJson<StatsAnswer>('stats');
  assert.equal(queue.messages, load.accepted.length);
  assert.equal((await relay.stop()).code, 0);
});

test('SIGTERM drains every process: all that was accepted arrives once', { timeout: 90_000 }, async (t) => {
  const { sink, arrived } = startSink(t, arena);
  const relay = await RelayFixture.start({
    accept_processes: 2,
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  t.after(() => relay.destroy());
  const load = new Load(t, relay.port, arena, { perConnection: false, rate: 1000 });
  await load.more(1000, relay);
  const ended = await relay.stop();
  await load.end();
  assert.deepEqual(ended, { code: 0, signal: null }, relay.output());
  for (const name of ['relay.pid', 'queue.pid', 'process-1/queue.pid', 'control.sock'])
    assert.equal(existsSync(join(relay.dataDir, name)), false, name);
  await relay.start();
  await arrived(load.accepted);
  const { corrupted, duplicates, foreign } = sink.report();
  assert.deepEqual([corrupted, duplicates, foreign], [0, 0, 0]);
});

test('a session finishes its transaction while all drain, and a second SIGTERM ends it', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({ ...held, shutdown_grace_ms: 60_000 });
  t.after(() => relay.destroy());
  const open = await Promise.all(Array.from({ length: 8 }, () => Talk.hello(local(relay))));
  for (const talk of open) {
    await talk.say('MAIL FROM:<a@b.test>');
    await talk.say('RCPT TO:<c@d.test>');
    assert.match(await talk.say('DATA'), /^354/);
  }
  const draining = relay.logLine('relay.draining');
  relay.signal('SIGTERM');
  await draining;
  // The processes close their sockets one after the other.
  for (let result = ''; result !== 'ECONNREFUSED'; ) result = await probe(relay.port);
  const [first, ...rest] = open as [Talk, ...Talk[]];
  first.write('Subject: last\r\n\r\nx\r\n.\r\n');
  assert.match(await first.reply(), /^250/);
  assert.match(await first.reply(), /^421 4\.3\.2 /);
  const again = setInterval(() => {
    if (relay.running) relay.signal('SIGTERM');
  }, 100);
  t.after(() => clearInterval(again));
  assert.equal((await relay.exited(20_000)).code, 0);
  clearInterval(again);
  for (const talk of rest) await talk.closed();
  assert.match((await relay.queue('list')).stdout, /pending/);
});

test('limits of connections hold over processes; a dead process gives its own back', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({
    ...held,
    smtp: { max_connections: 12, max_connections_per_ip: 8 },
    supervisor: { restart_delay_ms: 20 },
  });
  t.after(() => relay.destroy());
  const from = (host: string) => ({ ...local(relay), localAddress: host });
  const taken: Talk[] = [];
  for (let i = 0; i < 8; i++) taken.push(await Talk.hello(from('127.0.0.1')));
  assert.match((await Talk.open(from('127.0.0.1'))).greeting, /^421 4\.7\.0 /);
  for (let i = 0; i < 4; i++) taken.push(await Talk.hello(from(`127.0.0.${i + 2}`)));
  assert.match((await Talk.open(from('127.0.0.9'))).greeting, /^421 4\.3\.2 /);
  const [a, b] = await until(relay, ([p, q]) => (p?.connections ?? 0) + (q?.connections ?? 0) === 12);
  t.diagnostic(`connections: ${a?.connections} and ${b?.connections}`);
  // Everybody holds a recipient of an open envelope as well.
  for (const talk of taken) {
    await talk.say('MAIL FROM:<a@a.test>');
    await talk.say('RCPT TO:<b@b.test>');
  }
  assert.deepEqual([heldNow(relay, 'connections', 0), heldNow(relay, 'sockets', 0)], [12, 12]);
  assert.ok(heldNow(relay, 'envelopes', 0) > 0 && heldNow(relay, 'envelopes', 1) > 0);
  const ended = relay.logLine('process.ended', (line) => line.process === 0);
  const back = relay.logLine('process.ready', (line) => line.process === 0);
  process.kill(pidOf(relay, 0), 'SIGKILL');
  await ended;
  const left = b?.connections;
  assert.deepEqual([heldNow(relay, 'connections', 0), heldNow(relay, 'sockets', 0)], [left, left]);
  assert.equal(heldNow(relay, 'envelopes', 0), 0);
  assert.ok(heldNow(relay, 'envelopes', 1) > 0);
  await back;
  const free = 12 - (b?.connections ?? 0);
  for (let i = 0; i < free; i++) taken.push(await Talk.hello(from(`127.0.0.${i + 20}`)));
  assert.match((await Talk.open(from('127.0.0.90'))).greeting, /^421 4\.3\.2 /);
  for (const talk of taken) talk.destroy();
});

/** What the accounts of the host say now, in the memory that its processes share; of one process where it counts alone. */
function heldNow(relay: RelayFixture, resource: Resource, process: number): number {
  const { config } = loadConfig(relay.configPath);
  const folder = `/proc/${relay.pid}/fd`;
  const fd = readdirSync(folder).find((name) => readlinkSync(join(folder, name)).startsWith('/memfd:'));
  const bytes = new Uint8Array(readFileSync(join(folder, fd as string)));
  const memory = new PolicyMemory(bytes.buffer, policySizes(config, held.accept_processes), process);
  return memory.accounts.total(resource);
}

/** Statuses as they are told every second. */
async function until(
  relay: RelayFixture,
  matches: (all: Awaited<ReturnType<typeof processesOf>>) => boolean,
) {
  let all: Awaited<ReturnType<typeof processesOf>> = [];
  await eventually(async () => {
    all = await processesOf(relay);
    assert.ok(matches(all), JSON.stringify(all));
  });
  return all;
}

test('the queue commands see and change the queues of all processes, running and stopped', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start(held);
  t.after(() => relay.destroy());
  const count = await depositEverywhere(relay, 'cli.test', 2);
  const entries = await entriesOf(relay);
  assert.equal(entries.length, count);
  assert.deepEqual(
    entries.map(({ queue_id }) => queue_id),
    entries.map(({ queue_id }) => queue_id).toSorted(),
  );
  assert.equal(new Set(entries.map(({ queue_id }) => queue_id)).size, count);
  for (const process of [0, 1]) {
    const { queue_id: queueId } = entries.find((entry) => originOf(entry) === process) as EntryAnswer;
    assert.match((await relay.queue('show', queueId)).stdout, /r\d+@cli\.test/);
    assert.match((await relay.queue('cat', queueId)).stdout, /^Received: /);
    assert.match((await relay.queue('hold', queueId)).stdout, /^hold: 1 entry with 1 recipient$/m);
  }
  assert.equal((await relay.queue('show', '0123456789abcde')).code, 65);
  assert.match(
    (await relay.queue('release', '--destination', 'cli.test')).stdout,
    /^release: 2 entries with 2 recipients$/m,
  );
  const running = await relay.queueJson<StatsAnswer>('stats');
  assert.equal(running.queue.entries.pending, count);
  assert.deepEqual(
    running.queue.destinations.map(({ destination, entries: n }) => [destination, n]),
    [['cli.test', count]],
  );
  const text = (await relay.queue('stats')).stdout;
  assert.match(text, new RegExp(`^Delivery +0 entries being sent, ${count} waiting at 1 destination$`, 'm'));
  assert.deepEqual(
    running.processes.map(({ state, accepts }) => [state, accepts]),
    [
      ['ready', true],
      ['ready', true],
    ],
  );
  const statusNow = async (): Promise<StatusAnswer> => {
    const status = await relay.status('--json');
    assert.equal(status.code, 0, status.stdout);
    return JSON.parse(status.stdout) as StatusAnswer;
  };
  const answer = await statusNow();
  assert.deepEqual([answer.processes.length, answer.healthy], [2, true]);
  // What it says of the queue was counted some seconds ago.
  await eventually(async () => assert.equal((await statusNow()).queue?.messages.pending, count));
  const first = await relay.queueEntries('--limit', '3');
  assert.deepEqual(
    first,
    entries.slice(0, 3).map((one) => ({ ...one, ...first.find((f) => f.queue_id === one.queue_id) })),
  );
  assert.equal((await relay.stop()).code, 0);
  assert.deepEqual(
    (await entriesOf(relay)).map(({ queue_id }) => queue_id),
    entries.map(({ queue_id }) => queue_id),
  );
  assert.equal((await relay.queueJson<StatsAnswer>('stats')).queue.messages, count);
  const { queue_id: queueId } = entries.find((entry) => originOf(entry) === 1) as EntryAnswer;
  assert.match((await relay.queue('cat', queueId)).stdout, /^Received: /);
});

test('a second relay on the folder is refused, with one process or several', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start(held);
  t.after(() => relay.destroy());
  for (const accept_processes of [1, 2]) {
    const second = new RelayFixture({ ...held, accept_processes, data_dir: relay.dataDir });
    t.after(() => second.destroy());
    second.launch();
    assert.equal((await second.exited()).code, 75);
    assert.match(second.stderr, new RegExp(`another relay \\(pid ${relay.pid}\\) is running on `));
  }
});

test('from three processes to one: no mail is forgotten, and the queues of the others are emptied', {
  timeout: 90_000,
}, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({ accept_processes: 3, delivery: { enabled: false } });
  t.after(() => relay.destroy());
  const count = await depositEverywhere(relay, 'shrink.test', 3);
  assert.equal((await relay.stop()).code, 0);
  assert.equal((await entriesOf(relay)).length, count, 'seen while stopped');

  relay.configure({
    accept_processes: 1,
    delivery: { enabled: true, smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  const emptied = [1, 2].map((process) =>
    relay.logLine('process.ended', (line) => line.process === process && line.exit_code === 0, 30_000),
  );
  await relay.start();
  await Promise.all(emptied);
  for (let i = 0; i < count; i++) await fate(relay.events, `r${i}@shrink.test`, 'delivered');
  assert.deepEqual(await entriesOf(relay), []);
  await deposit(relay, 'later@shrink.test');
  await fate(relay.events, 'later@shrink.test', 'delivered');
  assert.equal((await relay.stop()).code, 0);
  // Nothing is left: from now on there is one process, and no supervisor.
  await relay.start();
  assert.deepEqual((await relay.queueJson<StatsAnswer>('stats')).processes, []);
  assert.equal((await relay.stop()).code, 0);
});

test('a queue that one process made is served when there are several', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({ accept_processes: 1, delivery: { enabled: false } });
  t.after(() => relay.destroy());
  await deposit(relay, 'before@grow.test');
  assert.equal((await relay.stop()).code, 0);
  relay.configure({
    accept_processes: 2,
    delivery: { enabled: true, smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  await relay.start();
  await fate(relay.events, 'before@grow.test', 'delivered');
  assert.equal((await relay.stop()).code, 0);
});

test('SIGUSR1: events of every process go on in new files', { timeout: 60_000 }, async (t) => {
  const relay = await RelayFixture.start(held);
  t.after(() => relay.destroy());
  await depositEverywhere(relay, 'rotate.test', 2);
  const dir = join(relay.dataDir, 'events');
  const names = (): string[] => readdirSync(dir).filter((name) => name.endsWith('.jsonl'));
  await relay.events.until('files of both', () => names().length === 2);
  assert.ok(names().some((name) => /^\d{4}-\d\d-\d\d-0001\.jsonl$/.test(name)));
  assert.ok(names().some((name) => /^\d{4}-\d\d-\d\d-0001\.p1\.jsonl$/.test(name)));
  for (const name of names()) renameSync(join(dir, name), join(dir, `${name}.old`));
  relay.signal('SIGUSR1');
  await relay.logLine('relay.log_reopened');
  await depositEverywhere(relay, 'after.test', 2);
  for (let i = 0; names().length < 2 && i < 20; i++) await deposit(relay, `more${i}@after.test`);
  await relay.events.until('files of both', () => names().length === 2);
});

test('Unix socket and TCP side by side: both are served by all, and the file goes with the relay', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({
    ...held,
    listeners: [{ path: 'smtp.sock' }, { host: '127.0.0.1', port: 0 }],
  });
  t.after(() => relay.destroy());
  const path = join(relay.dataDir, 'smtp.sock');
  const prober = new Prober(relay.port, 2);
  for (let i = 0; i < 12; i++) {
    const talk = await Talk.hello({ path });
    await talk.accepted({ to: `u${i}@unix.test` });
    await talk.quit();
  }
  await prober.end();
  assert.deepEqual([...new Set(prober.probes.map(({ result }) => result))], ['served']);
  assert.equal((await entriesOf(relay)).length, 12);
  assert.equal((await relay.stop()).code, 0);
  assert.equal(existsSync(path), false);
});

test('SIGTERM to one relay process restarts it without a refused connection', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({ ...held, supervisor: { restart_delay_ms: 300 } });
  t.after(() => relay.destroy());
  const prober = new Prober(relay.port);
  const load = new Load(t, relay.port, arena, { perConnection: true, rate: 200 });
  await load.more(50, relay);
  const back = relay.logLine('process.ready', (line) => line.process === 1, 30_000);
  process.kill(pidOf(relay, 1), 'SIGTERM');
  await back;
  await load.more(50, relay);
  await load.end();
  await prober.end();
  // A connection that the process had just taken when its drain began is told so.
  const results = new Set(prober.probes.map(({ result }) => result.replace(/^421 4\.3\.2 .*/, '421 4.3.2')));
  results.delete('421 4.3.2');
  assert.deepEqual([...results], ['served']);
  assert.equal((await relay.queueJson<StatsAnswer>('stats')).queue.messages, load.accepted.length);
  assert.equal((await relay.stop()).code, 0);
});
