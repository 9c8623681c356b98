/** What needs real sockets and a clock: timeouts, slow content, spilling, Unix sockets, the worker entry. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createGauges, GAUGE } from '../../src/admission/gauges.ts';
import { Listener } from '../../src/listener/listener.ts';
import { readMessages } from '../../src/mail/message-wire.ts';
import { createArena, listen, reactorConnections } from '../../src/native.ts';
import { onlyPlace } from '../../src/relay/place.ts';
import type { FromSession, SessionThreadStart, ToSession } from '../../src/session/messages.ts';
import { VERDICT } from '../../src/session/messages.ts';
import { configOf, recordingLog } from './dialog-fixture.ts';
import { ReactorFixture, TcpClient } from './reactor-fixture.ts';

const ENVELOPE = 'EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n';

async function upToContent(client: TcpClient): Promise<void> {
  await client.reply();
  await client.send(ENVELOPE);
  for (const code of ['250', '250', '250', '354']) assert.equal((await client.reply()).slice(0, 3), code);
}

test('a client that says nothing gets 421 4.4.2 when its time is up', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture({ smtp: { command_timeout_ms: 100 } });
  const client = await f.client();
  await client.reply();
  assert.match(await client.reply(), /^421 4\.4\.2 /);
  assert.equal(await client.line(), null);
  await f.finish();
  assert.deepEqual(f.closedPeers, ['127.0.0.1']);
});

test('a half command does not hold the time back', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture({ smtp: { command_timeout_ms: 100 } });
  const client = await f.client();
  await client.reply();
  await client.send('NOO');
  assert.match(await client.reply(), /^421 4\.4\.2 /);
  await f.finish();
});

test('silence within content gets 421 4.4.2', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture({ smtp: { data_timeout_ms: 100 } });
  const client = await f.client();
  await upToContent(client);
  await client.send('half a line');
  assert.match(await client.reply(), /^421 4\.4\.2 .*timed out/);
  await f.finish();
});

test('content slower than the minimum rate gets 421 4.4.2', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture({
    smtp: { min_data_rate_bytes_per_s: 1_000_000, min_data_rate_grace_ms: 50 },
  });
  const client = await f.client();
  await upToContent(client);
  await client.send('a few octets');
  assert.match(await client.reply(), /^421 4\.4\.2 .*too slowly/);
  await f.finish();
});

test('a large message goes through a spill file byte for byte', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture({ spill_threshold_bytes: 65_536 });
  const client = await f.client();
  await upToContent(client);
  const content = Array.from({ length: 20_000 }, (_, i) => `line ${i} of a large message\r\n`).join('');
  await client.send(`${content}.\r\n`);
  assert.match(await client.reply(), /^250 2\.0\.0 Ok: queued as /);
  assert.equal(f.submitted[0]?.content, content);
  assert.equal(f.submitted[0]?.message.sizeBytes, content.length);
  await f.finish();
});

test('100 messages pipelined on one connection are all answered in order', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture();
  const client = await f.client();
  await client.reply();
  await client.send('HELO x\r\n');
  for (let i = 0; i < 100; i++)
    await client.send(
      `MAIL FROM:<a@b.example>\r\nRCPT TO:<r${i}@d.example>\r\nBDAT 4 LAST\r\nx${String(i).padStart(3, '0')}`,
    );
  await client.reply();
  for (let i = 0; i < 100; i++) for (let j = 0; j < 3; j++) assert.match(await client.reply(), /^250 2/);
  await f.messages(100);
  assert.deepEqual(
    f.submitted.map(({ content }) => content),
    Array.from({ length: 100 }, (_, i) => `x${String(i).padStart(3, '0')}`),
  );
  await f.finish();
});

test('drain ends idle connections and says when the last is gone', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture();
  const client = await f.client();
  await client.reply();
  Atomics.store(f.gauges, GAUGE.draining, 1);
  const drained = new Promise<void>((done) => f.server.drain(done));
  assert.match(await client.reply(), /^421 4\.3\.2 /);
  client.destroy();
  await drained;
  await f.finish();
});

/** A session thread as relay.ts starts it, behind a listener on a Unix socket. */
class ThreadFixture {
  readonly folder = mkdtempSync(join(tmpdir(), 'thread-'));
  readonly gauges = createGauges();
  readonly config = configOf({
    data_dir: this.folder,
    listeners: [{ path: join(this.folder, 'smtp.sock') }],
    log: { level: 'silent' },
  });
  readonly arena;
  readonly worker: Worker;
  readonly batches: Extract<FromSession, { type: 'turn' }>[] = [];
  #wait: { want: (message: FromSession) => boolean; found: (message: FromSession) => void } | null = null;

  constructor() {
    const spillDir = join(this.folder, 'spill');
    mkdirSync(spillDir);
    this.arena = createArena(4 * 1024 * 1024, spillDir);
    const workerData: SessionThreadStart = {
      config: this.config,
      arena: this.arena.buffer,
      gauges: this.gauges.buffer,
      tls: { server: -1 },
      origin: 7,
      notBeforeMs: 0,
      policy: onlyPlace(this.config).policy,
    };
    this.worker = new Worker(new URL('../../src/session/thread.ts', import.meta.url), { workerData });
    this.worker.on('message', (message: FromSession) => {
      if (message.type === 'turn') this.batches.push(message);
      if (this.#wait?.want(message)) this.#wait.found(message);
    });
  }

  next(want: (message: FromSession) => boolean): Promise<FromSession> {
    return new Promise((found) => {
      this.#wait = { want, found };
    });
  }

  say(message: ToSession): void {
    this.worker.postMessage(message);
  }

  async stop(): Promise<void> {
    await this.worker.terminate();
    rmSync(this.folder, { recursive: true });
  }
}

test('the worker: ready, a message from a Unix socket, its verdict, new limits, drained', {
  timeout: 60_000,
}, async () => {
  const t = new ThreadFixture();
  const ready = await t.next(({ type }) => type === 'ready');
  assert(ready.type === 'ready');
  const ports = { listen, reactorConnections, now: Date.now };
  const listener = new Listener(t.config, [ready.reactorId], t.gauges, recordingLog([]), ports);
  const [address] = await listener.start();
  const client = new TcpClient(connect(address?.path ?? ''), null as never);
  await upToContent(client);
  assert.equal(listener.open, 1);
  const submitted = t.next((m) => m.type === 'turn' && m.messages.length > 0);
  await client.send('x\r\n.\r\n');
  await submitted;
  const { messages: wire, tickets } = t.batches[0] ?? assert.fail();
  const messages = readMessages(wire, tickets.length);
  assert.equal(messages[0]?.client.address, 'unix');
  assert.match(messages[0]?.trace ?? '', /\(unix socket\)/);
  assert.equal(t.arena.head(messages[0]?.content ?? -1, 100).toString(), 'x\r\n');
  assert.equal(Atomics.load(t.gauges, GAUGE.inflightMails), 1);
  t.arena.release(messages[0]?.content ?? -1);
  t.say({ type: 'verdicts', pairs: [tickets[0] ?? -1, VERDICT.committed] });
  assert.equal(await client.reply(), `250 2.0.0 Ok: queued as ${messages[0]?.queueId}`);
  assert.equal(t.arena.freeBytes(), t.arena.totalBytes);
  t.say({ type: 'config', config: configOf({ max_message_size: 2048, log: { level: 'silent' } }) });
  t.say({ type: 'reopen-log' });
  await client.send('EHLO x\r\n');
  for (let line = await client.line(); line?.[3] === '-'; line = await client.line())
    if (line.startsWith('250-SIZE')) assert.equal(line, '250-SIZE 2048');
  const drained = t.next(({ type }) => type === 'drained');
  t.say({ type: 'drain' });
  assert.match(await client.reply(), /^421 4\.3\.2 /);
  client.destroy();
  await drained;
  listener.closedPeers(t.batches.flatMap(({ closedPeers }) => closedPeers));
  assert.equal(listener.open, 0);
  listener.close();
  await t.stop();
});
