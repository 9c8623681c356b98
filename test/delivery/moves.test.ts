/**
 * The six moves, with hosts that behave as large providers do: Google (TLS wanted, split by domains), Yahoo and Microsoft
 * (so many messages a connection, then 421 and the end), QQ (a 550 that is a rate).
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Pace } from '../../src/delivery/pace.ts';
import { readRulesTexts } from '../../src/feedback/rules-text.ts';
import { ThreadReplies } from '../../src/feedback/thread-replies.ts';
import type { AttemptResult } from '../../src/mail/job.ts';
import { DnsServer } from '../support/dns-server.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

const OWN = {
  rules: [
    {
      id: 'other',
      pattern: 'ask the other host',
      class: 'system_temporary',
      scope: 'destination',
      move: 'next_host',
    },
    {
      id: 'tls',
      pattern: 'tls required',
      class: 'tls_required',
      scope: 'destination',
      move: 'reconnect_now',
    },
  ].map((rule) => ({ ...rule, code: '4xx', source: 'test' })),
};
const rules = new ThreadReplies(
  [{ file: 'own.json', text: JSON.stringify(OWN), isOwn: true }, ...readRulesTexts('')],
  10,
  (error) => {
    throw error;
  },
);

type Delivery = Partial<Harness['config']['delivery']>;

function sendTo(sink: ScriptedSink, delivery: Delivery = {}, retry = {}): Harness {
  const harness = startSender({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      suspend_after_failures: 3,
      max_connections_per_destination: 1,
      ...delivery,
    },
    retry,
  });
  harness.classify = (reply) => rules.classify(reply);
  return harness;
}

const many = (count: number): { recipients: string[] }[] =>
  Array.from({ length: count }, (_, i) => ({ recipients: [`r${i}@x.test`] }));
const people = (count: number): string[] => Array.from({ length: count }, (_, i) => `r${i}@x.test`);
const commands = (sink: ScriptedSink, verb: string): number =>
  sink.commands.filter((line) => line.replace(/^\d+: /, '').startsWith(verb)).length;

test('reconnect_now: 20 messages a connection, then 421 or the end; all are delivered, none counts twice, no host fails', async () => {
  for (const options of [
    {
      maxMessages: 20,
      atMaxMessages: '421',
      tooManyReply: '421 max message per connection reached, closing transmission channel',
    },
    { maxMessages: 20, atMaxMessages: 'close' },
    { maxMessages: 20, atMaxMessages: '421', tooManyReply: '450 4.7.0 too many messages in this session' },
  ] satisfies SinkOptions[]) {
    const sink = await startSink(options);
    const harness = sendTo(sink);
    const results = await harness.attemptAll(many(90));
    assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered'], JSON.stringify(options));
    assert.deepEqual([...new Set(results.map(({ attempts }) => attempts))], [1]);
    assert.equal(new Set(sink.messages.map(({ connection }) => connection)).size, 5);
    assert.equal(sink.messages.length, 90);
    assert.deepEqual(
      harness.posted.filter(({ type }) => type === 'destination'),
      [],
    );
    harness.stop();
  }
});

test('reconnect_now on a connection that served nothing is a deferral: there is no loop', async () => {
  const sink = await startSink({ faults: { mail: '=421 4.7.0 too many messages in this session' } });
  const harness = sendTo(sink);
  const [result] = await harness.attemptAll(many(1));
  assert.deepEqual(fates(result as never), ['deferred peer_4xx']);
  assert.equal(sink.connections, 1);
  harness.stop();
});

test('reconnect_now said of every second message ends after a few connections', async () => {
  // The connection serves once, and then never: each message may change it a few times.
  const sink = await startSink({
    maxMessages: 1,
    atMaxMessages: '421',
    tooManyReply: '421 too many messages in this session',
  });
  const harness = sendTo(sink);
  const results = await harness.attemptAll(many(6));
  assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered']);
  assert.ok(sink.connections <= 12, `${sink.connections}`);
  harness.stop();
});

test('split_now at RCPT: those refused go at once in another transaction, and the attempt counts once', async () => {
  const sink = await startSink({
    otherDomain: '451 4.3.0 Multiple destination domains per transaction is unsupported',
  });
  const harness = sendTo(sink);
  const recipients = ['a@one.test', 'b@two.test', 'c@one.test', 'd@three.test'];
  const result = await harness.attempt({ recipients });
  assert.deepEqual(fates(result), Array(4).fill('delivered'));
  assert.equal(result.attempts, 1);
  assert.deepEqual(
    sink.messages.map((message) => message.recipients.map(({ address }) => address).join(' ')),
    ['a@one.test c@one.test', 'b@two.test', 'd@three.test'],
  );
  harness.stop();
});

const SPLIT = '451 4.5.3 too many recipients in one transaction';
for (const at of ['data', 'dot'] as const)
  test(`split_now to ${at}: halves until it fits; of one recipient it is a deferral of all`, async () => {
    const sink = await startSink({ splitOver: { recipients: 3, at, reply: SPLIT } });
    const harness = sendTo(sink);
    const fits = await harness.attempt({ recipients: people(13) });
    assert.deepEqual([...new Set(fates(fits))], ['delivered']);
    assert.equal(fits.attempts, 1);
    assert.ok(sink.messages.every(({ recipients }) => recipients.length <= 3));
    sink.options.splitOver = { recipients: 0, at, reply: SPLIT };
    const before = commands(sink, 'MAIL');
    const never = await harness.attempt({ recipients: people(8) });
    assert.deepEqual([...new Set(fates(never))], ['deferred peer_4xx']);
    assert.ok(commands(sink, 'MAIL') - before <= 5, sink.commands.join('\n'));
    harness.stop();
  });

/** Two hosts of one domain, on one port. */
async function twoHosts(options: SinkOptions): Promise<[ScriptedSink, ScriptedSink, Harness]> {
  const first = await startSink({ ...options, host: '127.0.0.2' });
  const second = await startSink({ host: '127.0.0.3', port: first.port });
  const harness = startSender({
    dns: { servers: [dns.address] },
    delivery: {
      mx_port: first.port,
      refuse_loopback_mx: false,
      max_connections_per_destination: 1,
      idle_connection_ms: 0,
    },
  });
  harness.classify = (reply) => rules.classify(reply);
  return [first, second, harness];
}

let dns: DnsServer;
before(async () => {
  dns = await DnsServer.start({
    'mx1.test': { A: ['127.0.0.2'] },
    'mx2.test': { A: ['127.0.0.3'] },
    'two.test': {
      MX: [
        [10, 'mx1.test'],
        [20, 'mx2.test'],
      ],
    },
  });
});
after(() => dns?.stop());

test('slow_down: no other host is asked, and nothing begins until the pause is over', async () => {
  const [first, second, harness] = await twoHosts({
    faults: { rcpt: '=421 4.7.0 too many messages from your IP, slow down' },
  });
  const job = { recipients: ['a@two.test'], destination: 'two.test' };
  assert.deepEqual(fates(await harness.attempt(job)), ['deferred peer_4xx']);
  assert.equal(second.connections, 0);
  first.options.faults = {};
  const before = first.connections;
  const held = harness.attempt(job);
  assert.equal(first.connections, before);
  harness.clockOffsetMs += 1500;
  for (const { fire } of harness.timers.splice(0)) fire();
  assert.deepEqual(fates(await held), ['delivered']);
  assert.equal(second.connections, 0);
  harness.stop();
});

test('next_host: the attempt goes on with the next host, and so does what waits behind it', async () => {
  const [first, second, harness] = await twoHosts({
    faults: { mail: '=450 4.3.0 ask the other host' },
  });
  const jobs = Array.from({ length: 5 }, () => ({ recipients: ['a@two.test'], destination: 'two.test' }));
  const results = await harness.attemptAll(jobs);
  assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered']);
  assert.equal(second.messages.length, 5);
  assert.equal(first.messages.length, 0);
  harness.stop();
});

test('the pause doubles while it is asked for again and again, up to half a minute', () => {
  const pace = new Pace();
  const lasted: number[] = [];
  let nowMs = 0;
  for (let i = 0; i < 8; i++) {
    pace.slowDown('source', nowMs);
    pace.slowDown('source', nowMs);
    const begun = nowMs;
    while (pace.holds(nowMs)) nowMs += 500;
    lasted.push(nowMs - begun);
  }
  assert.deepEqual(lasted, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  nowMs += 30_001;
  pace.slowDown('netblock', nowMs);
  assert.ok(pace.holds(nowMs + 999) && !pace.holds(nowMs + 1000));
  pace.slowDown('dkim_domain', nowMs + 1000);
  assert.ok(!pace.holds(nowMs + 1000));
});

test('a 550 that is a rate waits, and bounces with its own code at the end', async () => {
  const sink = await startSink({
    faults: { mail: '=550 5.7.1 Rate limit exceeded, too many messages from your IP' },
  });
  for (const [retry, attempts] of [
    [{ max_attempts: 2 }, 1],
    [{ enabled: false }, 0],
  ] as const) {
    const harness = sendTo(sink, {}, retry);
    const last = await harness.attempt({ recipients: ['a@x.test'], attempts });
    assert.deepEqual(fates(last), ['bounced peer_5xx']);
    const outcome = outcomeOf(last);
    assert.ok(outcome.kind === 'bounced');
    assert.deepEqual([outcome.status, outcome.reply?.code], ['5.7.1', 550]);
    assert.deepEqual([outcome.verdict?.class, outcome.verdict?.move], ['rate_limit', 'bounce']);
    harness.stop();
  }
  const waiting = sendTo(sink);
  assert.deepEqual(fates(await waiting.attempt({ recipients: ['a@x.test'] })), ['deferred peer_5xx']);
  waiting.stop();
});

test('tls_required over a connection in the clear: once more at once where TLS was refused, not where none is offered', async () => {
  const sink = await startSink({
    clearFaults: { mail: '=421 4.7.0 TLS required for RCPT domain, closing connection' },
  });
  const harness = sendTo(sink);
  const result = await harness.attempt({ recipients: ['a@x.test'] });
  assert.deepEqual(fates(result), ['deferred peer_4xx'], 'the host offers none');
  assert.equal(sink.connections, 1);
  sink.options.tls = { reply: '454 4.7.0 not now' };
  harness.clockOffsetMs += 60_000;
  const again = await harness.attempt({ recipients: ['a@x.test'] });
  assert.deepEqual(fates(again), ['deferred peer_4xx'], 'and offers it in vain');
  assert.equal(sink.connections, 3);
  harness.stop();
});

for (const reply of [
  '421 4.7.0 enough',
  'drop',
  '421 4.7.0 too many recipients on this connection',
  '452 4.5.3 too many recipients in this session',
  '550 5.5.3 too many recipients',
])
  test(`a host that counts recipients over the connection: ${reply}`, async () => {
    const sink = await startSink({ recipientsOfConnection: { most: 10, reply } });
    const harness = sendTo(sink, { suspend_after_failures: 100 });
    // One transaction with so many never gets through; the first attempts show how many do.
    const results = [];
    for (let i = 0; i < 4; i++) results.push(await harness.attempt({ recipients: people(25) }));
    assert.deepEqual(new Set(fates(results.at(-1) as AttemptResult)), new Set(['delivered']));
    const small = await harness.attemptAll(many(40));
    assert.deepEqual(new Set(small.flatMap(fates)), new Set(['delivered']));
    for (const { isSaid } of harness.signs) assert.equal(isSaid, false);
    harness.stop();
    await sink.stop();
  });

test('a connection that took mail, and then only defers it, ends; the next one is asked', async () => {
  const sink = await startSink({ recipientsOfConnection: { most: 5, reply: '450 4.7.1 not now' } });
  const harness = sendTo(sink);
  const results = await harness.attemptAll(many(30));
  const later = results.flatMap(fates).filter((fate) => fate !== 'delivered');
  assert.deepEqual(new Set(later), new Set(['deferred peer_4xx']));
  assert.ok(later.length <= 15, `${later.length} of 30 wait`);
  assert.ok(sink.connections >= 3);
  harness.stop();
  await sink.stop();
});

test('a connection that only ever deferred mail is not at fault', async () => {
  const sink = await startSink({ recipientsOfConnection: { most: 0, reply: '450 4.7.1 not now' } });
  const harness = sendTo(sink);
  for (let i = 0; i < 6; i++) await harness.attempt({ recipients: ['r@x.test'] });
  assert.equal(sink.connections, 1);
  harness.stop();
  await sink.stop();
});
