import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { fates, type Harness, startSender, startSink } from './harness.ts';

async function drained(harness: Harness): Promise<string[]> {
  await harness.until(() => harness.posted.some(({ type }) => type === 'drained'));
  const message = harness.posted.find((one) => one.type === 'drained');
  assert.ok(message?.type === 'drained');
  return message.unfinished.map(({ queueId }) => queueId);
}

test('a drain finishes what is on the wire, gives back what is not, and closes with QUIT', async () => {
  const sink = await startSink({ delays: { dot: 30 } });
  const harness = startSender({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, max_connections_per_destination: 2 },
  });
  const jobs = Array.from({ length: 20 }, (_, i) => harness.job({ recipients: [`u${i}@x.test`] }));
  harness.sender.accept(jobs);
  await sink.until(() => sink.messages.length >= 1);
  harness.sender.drain(harness.config.shutdown_grace_ms);
  const unfinished = await drained(harness);
  const settled = harness.results.map(({ queueId }) => queueId);
  // Each job came back exactly once.
  assert.deepEqual([...settled, ...unfinished].sort(), jobs.map(({ queueId }) => queueId).sort());
  assert.equal(unfinished.length > 0 && settled.length > 0, true);
  assert.deepEqual(new Set(harness.results.flatMap(fates)), new Set(['delivered']));
  assert.equal(sink.messages.length, settled.length);
  await sink.until(() => sink.open.size === 0);
  assert.equal(sink.commands.filter((line) => line.endsWith('QUIT')).length, sink.connections);

  // What comes later goes back at once; content of unfinished jobs is still theirs.
  for (const job of jobs)
    if (unfinished.includes(job.queueId)) assert.equal(harness.arena.lengthBytes(job.content), 30);
  harness.stop();
  await sink.stop();
});

test('an idle sender is drained at once', async () => {
  const harness = startSender({});
  harness.sender.drain(harness.config.shutdown_grace_ms);
  assert.deepEqual(await drained(harness), []);
  harness.stop();
});

test('what does not end within shutdown_grace_ms is deferred as shutdown, due at once', async () => {
  const sink = await startSink();
  const harness = startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  harness.sender.accept([harness.job({ recipients: ['hang-at-dot@x.test'] })]);
  await sink.until(() => sink.unaccepted.length === 1);
  harness.sender.drain(harness.config.shutdown_grace_ms);
  assert.equal(harness.posted.length, 0);
  const grace = harness.timers.find(({ ms }) => ms === harness.config.shutdown_grace_ms);
  assert.ok(grace);
  grace.fire();
  assert.deepEqual(await drained(harness), []);
  assert.deepEqual(harness.results.flatMap(fates), ['deferred shutdown']);
  harness.stop();
  await sink.stop();
});

test('jobs waiting for DNS or a connection go back unfinished', async () => {
  const dns = await DnsServer.start({ 'mute.test': { fault: 'timeout' } });
  const sink = await startSink({ greeting: 'hang' });
  const harness = startSender({
    delivery: { routes: { 'hang.test': { host: '127.0.0.1', port: sink.port } } },
    dns: { servers: [dns.address] },
  });
  const jobs = [
    harness.job({ destination: 'mute.test', recipients: ['a@mute.test'] }),
    harness.job({ destination: 'hang.test', recipients: ['a@hang.test'] }),
  ];
  harness.sender.accept(jobs);
  await sink.until(() => sink.connections === 1);
  harness.sender.drain(harness.config.shutdown_grace_ms);
  assert.deepEqual((await drained(harness)).sort(), jobs.map(({ queueId }) => queueId).sort());
  assert.deepEqual(harness.results, []);
  await sink.until(() => sink.open.size === 0);
  harness.stop();
  await sink.stop();
  await dns.stop();
});

test('of a message with many transactions, those not begun are deferred as shutdown', async () => {
  const sink = await startSink({ delays: { dot: 20 } });
  const harness = startSender({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, max_recipients_per_transaction: 1 },
  });
  const recipients = Array.from({ length: 20 }, (_, i) => `u${i}@x.test`);
  harness.sender.accept([harness.job({ recipients })]);
  await sink.until(() => sink.messages.length === 2);
  harness.sender.drain(harness.config.shutdown_grace_ms);
  assert.deepEqual(await drained(harness), []);
  const counts = { delivered: 0, 'deferred shutdown': 0 };
  for (const fate of harness.results.flatMap(fates)) counts[fate as keyof typeof counts]++;
  assert.equal(counts.delivered, sink.messages.length);
  assert.equal(counts.delivered + counts['deferred shutdown'], 20);
  assert.equal(counts.delivered < 20, true);
  harness.stop();
  await sink.stop();
});

test('a job that arrives after the drain began goes back', async () => {
  const harness = startSender({});
  const sink = await startSink({ delays: { dot: 20 } });
  harness.sender.reconfigure({
    ...harness.config,
    delivery: { ...harness.config.delivery, smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  harness.sender.accept([harness.job({ recipients: ['a@x.test'] })]);
  await sink.until(() => sink.commands.some((line) => line.endsWith('DATA')));
  harness.sender.drain(harness.config.shutdown_grace_ms);
  const late = harness.job({ recipients: ['b@x.test'] });
  harness.sender.accept([late]);
  assert.deepEqual(await drained(harness), [late.queueId]);
  assert.deepEqual(harness.results.flatMap(fates), ['delivered']);
  harness.stop();
  await sink.stop();
});
