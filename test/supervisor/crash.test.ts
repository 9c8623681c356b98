/** Relay processes that die, hang and come back, under load. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createArena } from '../../src/native.ts';
import { fatesOf } from '../support/fates.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { Load, Prober, pidOf, processesOf, startSink } from './processes.ts';

const arena = createArena(32 << 20, tmpdir());

test('kill -9 of one process of two under load: no connection refused, nothing acknowledged lost, it comes back', {
  timeout: 90_000,
}, async (t) => {
  const { sink, arrived } = startSink(t, arena);
  const relay = await RelayFixture.start({
    accept_processes: 2,
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, max_handoff_messages: 50 },
    supervisor: { restart_delay_ms: 700 },
  });
  t.after(() => relay.destroy());
  const load = new Load(t, relay.port, arena, { perConnection: true, rate: 400 });
  const prober = new Prober(relay.port);
  for (const victim of [1, 0]) {
    await load.more(300, relay);
    const ended = relay.logLine('process.ended', (line) => line.process === victim);
    const back = relay.logLine('process.ready', (line) => line.process === victim, 30_000);
    process.kill(pidOf(relay, victim), 'SIGKILL');
    const told = await ended;
    assert.equal(told.signal, 'SIGKILL');
    assert.equal(told.restart_in_ms, 700);
    await load.more(200, relay);
    await back;
  }
  await load.more(200, relay);
  await prober.end();
  await load.end();
  // Connections the dead process had taken are reset; none is refused, and none that came later goes unserved.
  const results = new Map<string, number>();
  for (const { result } of prober.probes) results.set(result, (results.get(result) ?? 0) + 1);
  assert.ok((results.get('served') ?? 0) > 100, JSON.stringify([...results]));
  results.delete('served');
  for (const [result, count] of results) {
    assert.match(result, /ECONNRESET|closed without a greeting/);
    assert.ok(count <= 8, `${count} × ${result}`);
  }
  await arrived(load.accepted);
  assert.equal(sink.report().corrupted, 0);
  const restarted = (await processesOf(relay)).map(({ state, restarts }) => `${state} ${restarts}`);
  assert.deepEqual(restarted, ['ready 1', 'ready 1']);
  relay.events.read();
  for (const [key, fates] of fatesOf(relay.events.events)) assert.equal(fates.length, 1, `${key}: ${fates}`);
  assert.deepEqual(await relay.stop(), { code: 0, signal: null }, relay.output());
  const report = sink.report();
  t.diagnostic(
    `${load.accepted.length} accepted, ${report.duplicates} duplicates (I6), ${prober.probes.length} probes, ` +
      `not served: ${JSON.stringify([...results])}`,
  );
});

test('a process that hangs is passed over, killed, and started again', { timeout: 60_000 }, async (t) => {
  const relay = await RelayFixture.start({
    accept_processes: 2,
    delivery: { enabled: false },
    supervisor: { hang_timeout_ms: 8000, restart_delay_ms: 50 },
  });
  t.after(() => relay.destroy());
  const silent = relay.logLine('process.silent');
  const hangs = relay.logLine('process.hangs', () => true, 30_000);
  const back = relay.logLine('process.ready', () => true, 30_000);
  process.kill(pidOf(relay, 1), 'SIGSTOP');
  assert.equal((await silent).process, 1);
  for (let i = 0; i < 10; i++) await (await Talk.hello({ host: '127.0.0.1', port: relay.port })).quit();
  assert.equal((await hangs).process, 1);
  await back;
  assert.equal((await relay.stop()).code, 0);
});

test('a process that cannot start again is tried at a slow pace while the other serves', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({
    accept_processes: 2,
    delivery: { enabled: false },
    supervisor: { restart_delay_ms: 100, max_restart_delay_ms: 400 },
  });
  t.after(() => relay.destroy());
  const queue = join(relay.dataDir, 'process-1', 'queue.db');
  const delays: unknown[] = [];
  const bad = relay.logLine(
    'process.ended',
    (line) => {
      delays.push(line.restart_in_ms);
      return delays.length === 5;
    },
    30_000,
  );
  const move = (from: string, to: string): void => {
    for (const suffix of ['', '-wal', '-shm'])
      if (existsSync(from + suffix)) renameSync(from + suffix, to + suffix);
  };
  move(queue, `${queue}.good`);
  writeFileSync(queue, 'this is no database, and never was one '.repeat(100));
  process.kill(pidOf(relay, 1), 'SIGKILL');
  await bad;
  assert.deepEqual(delays, [100, 200, 400, 400, 400]);
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await talk.accepted({ to: 'x@y.test' });
  const ran = await relay.queue('stats');
  assert.match(ran.stdout, /^1 +(-|\d+) +(waiting|starting) /m);
  assert.match((await relay.queue('list')).stderr, /relay process 1 (is (down|starting)|ended)/);
  const back = relay.logLine('process.ready', (line) => line.process === 1, 30_000);
  rmSync(queue);
  move(`${queue}.good`, queue);
  await back;
  assert.equal((await relay.stop()).code, 0);
});

/** Resolves when it is gone, or only waits for its parent to ask how it ended. */
async function ended(pid: number): Promise<void> {
  try {
    while (!/ Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')))
      await new Promise((next) => setTimeout(next, 10));
  } catch {
    // Gone.
  }
}

test('kill -9 of the supervisor ends its processes, and the next one starts on the folder', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({ accept_processes: 2, delivery: { enabled: false } });
  t.after(() => relay.destroy());
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await talk.accepted({ to: 'kept@y.test' });
  const pids = [pidOf(relay, 0), pidOf(relay, 1)];
  process.kill(relay.pid, 'SIGKILL');
  await relay.exited();
  for (const pid of pids) await bounded(ended(pid), 10_000, () => `process ${pid} lives on`);
  await relay.start();
  assert.match((await relay.queue('list')).stdout, /y\.test/);
  assert.equal((await relay.stop()).code, 0);
});
