/** What the relay promises when it says 250, what it refuses, and that it stays usable when it is full. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { fate } from '../support/fates.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const local = (relay: RelayFixture) => ({ port: relay.port, host: '127.0.0.1' });

test('after_persist: what got its 250 survives kill -9 at once', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    delivery: { enabled: false, smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  t.after(() => relay.destroy());
  const talk = await Talk.hello(local(relay));
  const addresses = Array.from({ length: 10 }, (_, index) => `p${index}@persist.test`);
  for (const to of addresses) await talk.accepted({ to });
  await relay.kill();
  talk.destroy();
  relay.configure({ delivery: { enabled: true } });
  await relay.start();
  await Promise.all(addresses.map((address) => fate(relay.events, address, 'delivered')));
});

test('after_enqueue: the 250 says so, and the mail arrives', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    inbound_ack_mode: 'after_enqueue',
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  t.after(() => relay.destroy());
  const talk = await Talk.hello(local(relay));
  const replies = [];
  for (let i = 0; i < 50; i++) replies.push(await talk.send({ to: `e${i}@enqueue.test` }));
  for (const reply of replies) assert.match(reply, /^250 2\.\d\.\d .*(memory|not yet|crash)/i);
  await sink.received(50);
});

test('clients outside relay_networks reach relay_domains only', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    relay_networks: ['192.0.2.0/24'],
    relay_domains: ['ours.test', '.sub.test'],
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  t.after(() => relay.destroy());
  const talk = await Talk.hello(local(relay));
  assert.match(await talk.say('MAIL FROM:<a@b.test>'), /^250/);
  assert.match(await talk.say('RCPT TO:<x@elsewhere.test>'), /^550 5\.7\.1 /);
  assert.match(await talk.say('RCPT TO:<x@notours.test>'), /^550 5\.7\.1 /);
  // A percent hack or a source route opens no back door.
  assert.match(await talk.say('RCPT TO:<@ours.test:x@elsewhere.test>'), /^550 5\.7\.1 /);
  assert.match(await talk.say('RCPT TO:<x@OURS.test>'), /^250/);
  assert.match(await talk.say('RCPT TO:<x@deep.sub.test>'), /^250/);
  assert.match(await talk.say('DATA'), /^354/);
  talk.write('Subject: x\r\n\r\nx\r\n.\r\n');
  assert.match(await talk.reply(), /^250/);
  await sink.received(1);
  assert.deepEqual(
    sink.messages[0]?.recipients.map((to) => to.address),
    ['x@OURS.test', 'x@deep.sub.test'],
  );
});

test('a Unix-socket listener and an IPv6 listener take mail', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = new RelayFixture({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  t.after(() => relay.destroy());
  const path = join(relay.dir, 'smtp.sock');
  relay.configure({ listeners: [{ host: '::1', port: 0 }, { path }] });
  await relay.start();
  for (const where of [{ path }, { host: '::1', port: relay.port }]) {
    const talk = await Talk.hello(where);
    await talk.accepted({ to: 'over@socket.test' });
    await talk.quit();
  }
  await sink.received(2);
  const traces = sink.messages.map((message) => message.content.toString('latin1'));
  assert.ok(
    traces.some((trace) => /\[IPv6:::1\]/.test(trace)),
    traces.join('\n'),
  );
});

test('no pipelined smuggling: lone LF and CR around a dot end nothing', { timeout: 60_000 }, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  t.after(() => relay.destroy());
  const smuggled =
    'MAIL FROM:<evil@smuggle.test>\r\nRCPT TO:<victim@smuggle.test>\r\nDATA\r\nSubject: evil\r\n\r\nx\r\n.\r\n';
  for (const end of ['\n.\n', '\n.\r\n', '\r\n.\n', '\r.\r', '\r\n.\r', '\r\n\0.\r\n']) {
    const talk = await Talk.hello(local(relay));
    await talk.say('MAIL FROM:<a@b.test>');
    await talk.say('RCPT TO:<smuggle@client.test>');
    await talk.say('DATA');
    talk.write(`Subject: outer\r\n\r\ntext${end}${smuggled}`);
    assert.match(await talk.reply(), /^5\d\d 5\.6\./, `end ${JSON.stringify(end)}`);
    assert.match(await talk.say('NOOP'), /^250/);
    await talk.quit();
  }
  const talk = await Talk.hello(local(relay));
  await talk.accepted({ to: 'last@client.test' });
  await talk.quit();
  await sink.received(1);
  assert.equal(sink.messages.length, 1);
  assert.equal(sink.messages[0]?.recipients[0]?.address, 'last@client.test');
});

test('persist_max_inflight_mails: 452 when full, usable afterwards', { timeout: 60_000 }, async (t) => {
  const relay = await RelayFixture.start({ persist_max_inflight_mails: 2, delivery: { enabled: false } });
  t.after(() => relay.destroy());
  const where = local(relay);
  const talks = await Promise.all(Array.from({ length: 40 }, () => Talk.hello(where)));
  const attempt = async (talk: Talk): Promise<string> => {
    try {
      return await talk.send({ to: 'full@relay.test' });
    } catch (error) {
      return String((error as Error).message);
    }
  };
  const replies: string[] = [];
  for (let round = 0; round < 5; round++) {
    replies.push(...(await Promise.all(talks.map(attempt))));
    await Promise.all(talks.map((talk) => talk.say('RSET')));
  }
  const accepted = replies.filter((reply) => reply.startsWith('250')).length;
  const full = replies.filter((reply) => /452 4\.3\.1/.test(reply)).length;
  assert.equal(
    accepted + full,
    replies.length,
    replies.find((reply) => !/^250|452 4\.3\.1/.test(reply)),
  );
  assert.ok(full > 0, 'two places for forty clients must fill up');
  for (const talk of talks) assert.match(await talk.send({ to: 'after@relay.test' }), /^250/);
  const stats = await relay.queueJson<{ queue: { messages: number } }>('stats');
  assert.equal(stats.queue.messages, accepted + talks.length);
  for (const talk of talks) talk.destroy();
});

test('SIZE: too big at MAIL and at the end of data; the connection stays usable', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({ max_message_size: 100_000, delivery: { enabled: false } });
  t.after(() => relay.destroy());
  const talk = await Talk.hello(local(relay));
  assert.match(await talk.say('MAIL FROM:<a@b.test> SIZE=100001'), /^552 5\.3\.4 /);
  assert.match(
    await talk.send({ to: 'a@b.test', content: `${'x'.repeat(70)}\r\n`.repeat(3000) }),
    /^552 5\.3\.4 /,
  );
  await talk.accepted({ to: 'a@b.test' });
  await talk.quit();
});

test('in memory: mail is relayed, max_messages gets 452, a restart loses what waits', {
  timeout: 60_000,
}, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    database: { path: ':memory:', max_messages: 5 },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
    retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
  });
  t.after(() => relay.destroy());
  assert.ok(
    relay.log.some((line) => line.event === 'relay.in_memory' && line.level === 'warn'),
    'the log must warn that a restart loses mail',
  );
  const talk = await Talk.hello(local(relay));
  await talk.accepted({ to: 'goes@memory.test' });
  await fate(relay.events, 'goes@memory.test', 'delivered');
  for (let i = 0; i < 5; i++) {
    await talk.accepted({ to: `defer-451+${i}@memory.test` });
    await fate(relay.events, `defer-451+${i}@memory.test`, 'deferred');
  }
  const full = await talk.send({ to: 'sixth@memory.test' }).catch((error: Error) => error.message);
  assert.match(full, /452 4\.3\.1/);
  talk.destroy();
  await relay.stop();
  await relay.start();
  const stats = await relay.queueJson<{ queue: { messages: number } }>('stats');
  assert.equal(stats.queue.messages, 0);
});

test('5,000 idle connections: working ones beside them are served', { timeout: 60_000 }, async (t) => {
  const limit = openFilesLimit();
  if (limit < 5200) return t.skip(`ulimit -n is ${limit}, 5,200 are needed`);
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    smtp: { max_connections: 6000, max_connections_per_ip: 6000 },
  });
  t.after(() => relay.destroy());
  const idle: Socket[] = [];
  t.after(() => {
    for (const socket of idle) socket.destroy();
  });
  for (let opened = 0; opened < 5000; opened += 250) {
    idle.push(...(await Promise.all(Array.from({ length: 250 }, () => greeted(relay.port)))));
  }
  const talks = await Promise.all(Array.from({ length: 20 }, () => Talk.hello(local(relay))));
  await Promise.all(
    talks.map(async (talk, index) => {
      for (let i = 0; i < 10; i++) await talk.accepted({ to: `w${index}-${i}@idle.test` });
      await talk.quit();
    }),
  );
  await sink.received(200);
  assert.ok(
    idle.every((socket) => !socket.destroyed && socket.readable),
    'an idle connection was dropped',
  );
});

/** A connection that read its greeting and says nothing. */
function greeted(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  const ready = new Promise<Socket>((resolve, reject) => {
    socket.once('data', (bytes) => {
      if (String(bytes).startsWith('220')) resolve(socket);
      else reject(new Error(String(bytes)));
    });
    socket.once('error', reject);
  });
  return bounded(ready, 20_000, () => 'no greeting');
}

function openFilesLimit(): number {
  const line = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? '0';
  return line === 'unlimited' ? Number.POSITIVE_INFINITY : Number(line);
}
