import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ScriptedSink } from '../support/scripted-sink.ts';
import { fates, type Harness, type JobInput, outcomeOf, startSender, startSink } from './harness.ts';

const HOUR = 3_600_000;
let sink: ScriptedSink;
before(async () => {
  sink = await startSink({ capabilities: ['PIPELINING', 'ENHANCEDSTATUSCODES'] });
});
after(() => sink.stop());

async function one(retry: Partial<Harness['config']['retry']>, input: Partial<JobInput>) {
  const harness = startSender({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    dsn: { delay_after_ms: 4 * HOUR },
    retry,
  });
  const result = await harness.attempt({ recipients: ['defer-451@x.test'], ...input });
  const dsns = result.dsns.map((message) => harness.arena.head(message.content, 100_000).toString());
  harness.stop();
  return { result, outcome: outcomeOf(result), dsns };
}

test('a deferral names its reason, the reply and the time of the next attempt', async () => {
  const now = Date.now();
  const { result, outcome, dsns } = await one({ initial_delay_ms: 1000, jitter_ratio: 0 }, { attempts: 2 });
  assert.ok(outcome.kind === 'deferred');
  assert.equal(outcome.reason, 'peer_4xx');
  assert.equal(outcome.reply?.code, 451);
  assert.equal(outcome.retryAtMs >= now + 4000 && outcome.retryAtMs < now + 6000, true);
  assert.equal(result.attempts, 3);
  assert.equal(result.fence, 7);
  assert.deepEqual(dsns, []);
});

test('the last attempt expires with the last reply, and the sender is told', async () => {
  const { result, outcome, dsns } = await one({ max_attempts: 3 }, { attempts: 2 });
  assert.ok(outcome.kind === 'bounced');
  assert.equal(outcome.reason, 'expired');
  assert.equal(outcome.status, '5.4.7');
  assert.equal(outcome.reply?.code, 451);
  assert.match(outcome.detail, /^gave up after 3 attempts in 0\.0 hours; last: peer_4xx, 451 4\.7\.1 RCPT/);
  assert.equal(result.attempts, 3);
  assert.match(dsns[0] ?? '', /Action: failed\r\nStatus: 5\.4\.7\r\n/);
});

test('with retry off the first deferral bounces with the code of the reply', async () => {
  const { outcome, dsns } = await one({ enabled: false }, {});
  assert.ok(outcome.kind === 'bounced');
  assert.equal(outcome.reason, 'retry_disabled');
  assert.equal(outcome.status, '5.7.1');
  assert.equal(dsns.length, 1);
});

test('a job past max_age_ms expires without an attempt', async () => {
  const before = sink.commands.length;
  const { result, outcome, dsns } = await one(
    { max_age_ms: HOUR },
    { receivedAtMs: Date.now() - HOUR, attempts: 4, recipients: ['ok@x.test', 'ok2@x.test'] },
  );
  assert.deepEqual(fates(result), ['bounced expired', 'bounced expired']);
  assert.ok(outcome.kind === 'bounced');
  assert.equal(result.attempts, 4);
  assert.equal(sink.commands.length, before);
  assert.equal(dsns.length, 1);
});

test('a delay DSN goes out once and is remembered', async () => {
  const waited = { receivedAtMs: Date.now() - 5 * HOUR };
  const first = await one({}, waited);
  assert.equal(first.result.delayNotified, true);
  assert.match(first.dsns[0] ?? '', /Action: delayed/);
  const second = await one({}, { ...waited, delayNotified: true });
  assert.equal(second.result.delayNotified, true);
  assert.deepEqual(second.dsns, []);
});

test('a success DSN says relayed when the next hop offers no DSN', async () => {
  const { dsns } = await one({}, { recipients: [{ address: 'ok@x.test', notify: 2 }, 'other@x.test'] });
  assert.equal(dsns.length, 1);
  assert.match(dsns[0] ?? '', /Final-Recipient: rfc822; ok@x\.test\r\nAction: relayed\r\nStatus: 2\.0\.0/);
  assert.equal(dsns[0]?.includes('other@x.test'), false);
});

test('bounces of one attempt share one DSN, and the null reverse-path gets none (I4)', async () => {
  const recipients = ['bounce-550@x.test', 'ok@x.test', 'bounce-551@x.test'];
  const { dsns } = await one({}, { recipients });
  assert.equal(dsns.length, 1);
  assert.equal(dsns[0]?.match(/Action: failed/g)?.length, 2);
  assert.deepEqual((await one({}, { recipients, from: '' })).dsns, []);
});

test('a result whose DSN finds no room waits for it, without the content it reports on (I3)', async () => {
  const harness = startSender(
    { delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } },
    4 * 1024 * 1024,
  );
  const { arena } = harness;
  const job = harness.job({ recipients: ['bounce-550@x.test'], ret: 'FULL' });
  // Another thread holds all the rest, and the content itself too.
  const taken: number[] = [];
  while (arena.freeBytes() > 0) taken.push(arena.store(Buffer.from('x')));
  arena.retain(job.content);
  harness.sender.accept([job]);
  await sink.until(() => sink.commands.some((line) => line.includes('bounce-550')));
  await new Promise<void>((resolve) => {
    const look = () => (harness.timers.length > 0 ? resolve() : setImmediate(look));
    look();
  });
  assert.equal(harness.results.length, 0);
  harness.timers.shift()?.fire();
  assert.equal(harness.results.length, 0, 'still no room');
  for (const content of taken.splice(-16)) arena.release(content);
  harness.timers.shift()?.fire();
  const [result] = harness.results;
  assert.ok(result);
  assert.deepEqual(fates(result), ['bounced peer_5xx']);
  const text = arena.head(result.dsns[0]?.content as number, 100_000).toString();
  assert.match(text, /Action: failed/);
  assert.equal(text.includes('hello'), false, 'only the header section');
  assert.equal(harness.timers.length, 0);
  harness.stop();
});

test('when a drain ends before there is room, the bounced recipient stays in the queue', async () => {
  const harness = startSender(
    { delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } },
    4 * 1024 * 1024,
  );
  const { arena } = harness;
  const job = harness.job({ recipients: ['bounce-550@x.test', 'ok@x.test'] });
  while (arena.freeBytes() > 0) arena.store(Buffer.from('x'));
  arena.retain(job.content);
  harness.sender.accept([job]);
  await new Promise<void>((resolve) => {
    const look = () => (harness.timers.length > 0 ? resolve() : setImmediate(look));
    look();
  });
  harness.sender.drain(harness.config.shutdown_grace_ms);
  assert.equal(harness.posted.length, 0);
  harness.timers.at(-1)?.fire();
  assert.deepEqual(harness.results.flatMap(fates), ['deferred shutdown', 'delivered']);
  assert.deepEqual(harness.posted.at(-1), { type: 'drained', unfinished: [] });
  harness.stop();
});
