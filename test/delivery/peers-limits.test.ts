/** What a delivery thread tells of the limits of peers: how connections end that were used up, and which were refused beside others. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Config } from '../../src/config/schema.ts';
import type { Verdict } from '../../src/mail/verdict.ts';
import type { ShapingData } from '../../src/shaping/shaping-data.ts';
import { DnsServer } from '../support/dns-server.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, startSender, startSink } from './harness.ts';

let dns: DnsServer;
before(async () => {
  dns = await DnsServer.start({ 'x.test': { MX: [[10, 'mx.test']] }, 'mx.test': { A: ['127.0.0.1'] } });
});
after(() => dns.stop());

const DATA: ShapingData = { rollup: 'mx_set', limits: { max_connections: 10 }, total: {}, providers: [] };
const USED_UP: Verdict = {
  class: 'per_connection_limit',
  scope: 'connection',
  move: 'reconnect_now',
  rule: 'r',
};
const TOO_MANY: Verdict = { class: 'connection_limit', scope: 'source', move: 'slow_down', rule: 'r' };

async function withSink(
  options: SinkOptions,
  delivery: Partial<Config['delivery']>,
  work: (sink: ScriptedSink, harness: Harness) => Promise<void>,
): Promise<void> {
  const sink = await startSink(options);
  const config = {
    dns: { servers: [`127.0.0.1:${dns.port}`] } as Config['dns'],
    delivery: {
      mx_port: sink.port,
      refuse_loopback_mx: false,
      max_connections_per_destination: 1,
      ...delivery,
    },
  };
  const harness = startSender(config, undefined, undefined, undefined, DATA);
  try {
    await work(sink, harness);
  } finally {
    harness.stop();
    await sink.stop();
  }
}

const mail = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ recipients: [`u${i}@x.test`], destination: 'x.test' }));
async function deliver(harness: Harness, count: number): Promise<void> {
  const results = await harness.attemptAll(mail(count));
  assert.deepEqual(new Set(results.flatMap(fates)), new Set(['delivered']));
}
const told = ({ signs }: Harness) => signs.map(({ of, count, isSaid, reply }) => [of, count, isSaid, reply]);

for (const [form, options, isSaid, reply] of [
  ['closes after the 250', { atMaxMessages: 'close' }, false, ''],
  ['closes at MAIL', { atMaxMessages: 'drop' }, false, ''],
  ['says 421', { atMaxMessages: '421', tooManyReply: '421 4.7.0 too many' }, true, '421 4.7.0 too many'],
  ['says 450', { atMaxMessages: '421', tooManyReply: '450 too many' }, true, '450 too many'],
  ['says it is open too long', { atMaxMessages: '421', tooManyReply: '421 expired' }, false, '421 expired'],
] as const)
  test(`a peer that takes five messages and then ${form}`, async () => {
    await withSink({ maxMessages: 5, ...options }, {}, async (_, harness) => {
      harness.classify = () => USED_UP;
      await deliver(harness, 12);
      assert.deepEqual(told(harness), [
        ['messages', 5, isSaid, reply],
        ['messages', 5, isSaid, reply],
      ]);
      const [sign] = harness.signs;
      assert.deepEqual(sign?.key, { site: 'mx:mx.test', provider: '', source: '' });
    });
  });

test('a reply of another class, or what we end ourselves, says nothing', async () => {
  const tooFast: SinkOptions = { maxMessages: 5, atMaxMessages: '421', tooManyReply: '421 slow down' };
  await withSink(tooFast, { max_messages_per_connection: 3 }, async (_, harness) => {
    await deliver(harness, 9);
    assert.deepEqual(told(harness), []);
  });
  await withSink(tooFast, {}, async (_, harness) => {
    harness.classify = () => ({ ...TOO_MANY, class: 'rate_limit' });
    await harness.attemptAll(mail(6));
    assert.deepEqual(told(harness), []);
  });
});

test('a connection that stood idle ends for the time, and not for the number', async () => {
  await withSink({}, {}, async (sink, harness) => {
    await deliver(harness, 2);
    harness.clockOffsetMs += 5000;
    sink.dropAll();
    await sink.until(() => sink.open.size === 0);
    await deliver(harness, 1);
    assert.equal(sink.connections, 2);
    assert.deepEqual(told(harness), []);
  });
});

for (const [greeting, verdict, isSaid] of [
  ['421 too many connections', TOO_MANY, true],
  ['554 no', { ...TOO_MANY, class: 'unknown', move: 'bounce' }, false],
] as const)
  test(`a further connection is refused while two are served: ${greeting}`, async () => {
    const many = { max_connections_per_destination: 8, backlog_per_connection: 1 };
    await withSink({ delays: { dot: 50 } }, many, async (sink, harness) => {
      harness.classify = () => verdict;
      const usual = '220 mx';
      sink.options.greeting = usual;
      void sink
        .until(() => sink.connections >= 2)
        .then(() => {
          sink.options.greeting = greeting;
        });
      await harness.attemptAll(mail(20));
      const [sign] = harness.signs;
      assert.deepEqual([sign?.of, sign?.isSaid, sign?.reply], ['connections', isSaid, greeting]);
      assert.ok((sign?.count ?? 0) >= 1 && (sign?.count ?? 0) <= 2);
    });
  });

test('a refusal that comes while nothing is served says nothing of a number', async () => {
  await withSink({ greeting: '421 too many connections' }, {}, async (_, harness) => {
    harness.classify = () => TOO_MANY;
    await harness.attemptAll(mail(3));
    assert.deepEqual(told(harness), []);
  });
});
