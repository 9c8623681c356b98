/** Start, reload, rotation, drain: signals of a running relay. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, renameSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LoadClient } from '../../bench/lib/load-client.ts';
import { Sink } from '../../bench/lib/sink-server.ts';
import { createArena } from '../../src/native.ts';
import { fate } from '../support/fates.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const local = (relay: RelayFixture) => ({ port: relay.port, host: '127.0.0.1' });
const arena = createArena(32 << 20, tmpdir());

test('SIGTERM under load: exit 0, nothing acknowledged is lost, nothing arrives twice', {
  timeout: 60_000,
}, async (t) => {
  let progressed: () => void = () => {};
  const sink = new Sink(
    {
      host: '127.0.0.1',
      port: 0,
      maxConnections: 200,
      run: 'd1a1a1a1',
      check: true,
      chunking: false,
      faults: [],
      rcpts: 1,
      delayMs: 0,
      spillDir: tmpdir(),
      onProgress: () => progressed(),
    },
    arena,
  );
  t.after(() => sink.close());
  const relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  t.after(() => relay.destroy());
  const accepted: number[] = [];
  let enough: () => void = () => {};
  const busy = new Promise<void>((resolve) => {
    enough = resolve;
  });
  const client = new LoadClient(
    {
      host: '127.0.0.1',
      port: relay.port,
      messages: Number.POSITIVE_INFINITY,
      sizeBytes: 2000,
      rcpts: 1,
      concurrency: 30,
      perConnection: false,
      pipeline: false,
      ratePerSecond: 0,
      durationMs: 0,
      toDomain: 'drain.test',
      from: 'sender@bench.test',
      run: 'd1a1a1a1',
      stallMs: 20_000,
      reconnectMs: 50,
      spillDir: tmpdir(),
      onAccepted: (number) => {
        accepted.push(number);
        if (accepted.length === 3000) enough();
      },
    },
    arena,
  );
  t.after(() => client.destroy());
  const running = client.run();
  await bounded(busy, 30_000, () => `only ${accepted.length} accepted:\n${relay.output()}`);
  const ended = await relay.stop();
  client.stop();
  await running;
  assert.deepEqual(ended, { code: 0, signal: null }, relay.output());
  await relay.start();
  let missing = accepted;
  const all = new Promise<void>((resolve) => {
    progressed = () => {
      missing = missing.filter((number) => sink.tally.count(number) === 0);
      if (missing.length === 0) resolve();
    };
    progressed();
  });
  await bounded(all, 30_000, () => `${missing.length} of ${accepted.length} missing:\n${relay.output()}`);
  const report = sink.report();
  assert.deepEqual([report.corrupted, report.duplicates, report.foreign], [0, 0, 0]);
});

test('a session under way at SIGTERM finishes its transaction, then gets 421', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({ delivery: { enabled: false }, shutdown_grace_ms: 8000 });
  t.after(() => relay.destroy());
  const open = await Talk.hello(local(relay));
  const idle = await Talk.hello(local(relay));
  await open.say('MAIL FROM:<a@b.test>');
  await open.say('RCPT TO:<c@d.test>');
  assert.match(await open.say('DATA'), /^354/);
  const draining = relay.logLine('relay.draining');
  relay.signal('SIGTERM');
  await draining;
  assert.match(await idle.reply(), /^421 4\.3\.2 /);
  open.write('Subject: last\r\n\r\nx\r\n.\r\n');
  assert.match(await open.reply(), /^250/);
  assert.match(await open.reply(), /^421 4\.3\.2 /);
  assert.deepEqual(await relay.exited(), { code: 0, signal: null });
  assert.match((await relay.queue('list')).stdout, /pending/);
});

test('a second SIGTERM stops at once, although a session stays open', { timeout: 60_000 }, async (t) => {
  const relay = await RelayFixture.start({ delivery: { enabled: false }, shutdown_grace_ms: 600_000 });
  t.after(() => relay.destroy());
  const open = await Talk.hello(local(relay));
  await open.say('MAIL FROM:<a@b.test>');
  await open.say('RCPT TO:<c@d.test>');
  await open.say('DATA');
  const draining = relay.logLine('relay.draining');
  relay.signal('SIGTERM');
  await draining;
  const { pid } = relay;
  const ended = relay.exited(15_000);
  // Signals within 300 ms count as one (a terminal's Ctrl-C that npm repeats): repeat until it takes.
  const again = setInterval(() => {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGTERM');
  }, 100);
  t.after(() => clearInterval(again));
  assert.notEqual((await ended).code, null);
});

test('SIGHUP: live keys apply, others are named; a bad file changes nothing', {
  timeout: 60_000,
}, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  t.after(() => relay.destroy());
  const before = await Talk.hello(local(relay));
  assert.match(await before.say('MAIL FROM:<a@b.test> SIZE=500000'), /^250/);
  await before.say('RSET');

  relay.configure({ max_message_size: 100_000, relay_networks: ['192.0.2.0/24'], node_id: 'other' });
  const line = await relay.reload();
  assert.ok((line.applied as string[]).includes('max_message_size'), JSON.stringify(line));
  assert.ok((line.needs_restart as string[]).includes('node_id'), JSON.stringify(line));
  const later = await Talk.hello(local(relay));
  assert.match(await later.say('MAIL FROM:<a@b.test> SIZE=500000'), /^552 5\.3\.4 /);
  assert.match(await later.say('MAIL FROM:<a@b.test>'), /^250/);
  assert.match(await later.say('RCPT TO:<x@anywhere.test>'), /^550 5\.7\.1 /);

  relay.configure({ relay_networks: ['127.0.0.0/8'], max_mesage_size: 5 });
  const refused = relay.logLine('relay.reload_refused');
  relay.signal('SIGHUP');
  assert.match(JSON.stringify(await refused), /max_mesage_size.*max_message_size/);
  assert.match(await later.say('RCPT TO:<x@anywhere.test>'), /^550 5\.7\.1 /);
});

test('SIGUSR1 after a rotation: events and log go on in new files', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  t.after(() => relay.destroy());
  const talk = await Talk.hello(local(relay));
  await talk.accepted({ to: 'before@rotate.test' });
  await fate(relay.events, 'before@rotate.test', 'delivered');
  const dir = join(relay.dataDir, 'events');
  for (const name of readdirSync(dir)) renameSync(join(dir, name), join(dir, `${name}.old`));
  const reopened = relay.logLine('relay.log_reopened');
  relay.signal('SIGUSR1');
  await reopened;
  await talk.accepted({ to: 'after@rotate.test' });
  await fate(relay.events, 'after@rotate.test', 'delivered');
  assert.ok(readdirSync(dir).some((name) => name.endsWith('.jsonl')));
});

test('mail that waited over a restart is delivered after it', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
    retry: { initial_delay_ms: 500, max_delay_ms: 500, jitter_ratio: 0 },
  });
  t.after(() => relay.destroy());
  const talk = await Talk.hello(local(relay));
  await talk.accepted({ to: 'once-451-at-rcpt@restart.test' });
  await talk.quit();
  await fate(relay.events, 'once-451-at-rcpt@restart.test', 'deferred');
  assert.equal((await relay.stop()).code, 0);
  await relay.start();
  const delivered = await fate(relay.events, 'once-451-at-rcpt@restart.test', 'delivered');
  assert.equal(delivered.attempt, 2, 'attempts are counted over restarts');
});
