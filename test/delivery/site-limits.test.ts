/** Limits of sites in a delivery thread: real sinks, MX hosts as the providers have them. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Config } from '../../src/config/schema.ts';
import type { Limits, Totals } from '../../src/shaping/limits.ts';
import type { ShapingData } from '../../src/shaping/shaping-data.ts';
import { loadShaping, SHIPPED_SHAPING } from '../../src/shaping/shaping-file.ts';
import { DnsServer } from '../support/dns-server.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

const SHIPPED = loadShaping({ file: SHIPPED_SHAPING, overrides_file: '', rollup: 'mx_set' }).data;
const GMAIL = 'gmail-smtp-in.l.google.com';
let dns: DnsServer;

before(async () => {
  const at = (exchange: string) => ({ MX: [[10, exchange]] as [number, string][] });
  dns = await DnsServer.start({
    ...Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`google${i}.test`, at(GMAIL)])),
    'outlook.test': at('outlook-com.olc.protection.outlook.com'),
    'apple.test': at('mx01.mail.icloud.com'),
    'both.test': {
      MX: [
        [10, 'mx1.both.test'],
        [20, 'mx2.both.test'],
      ],
    },
    'mx1.both.test': { A: ['127.0.0.1'] },
    'mx2.both.test': { A: ['127.0.0.2'] },
    'a.shared.test': at('mx.shared.test'),
    'b.shared.test': at('mx.shared.test'),
    'closed.test': at('mx.closed.test'),
    'four.test': at('mx.four.test'),
    'mx.four.test': { A: ['127.0.0.1'], AAAA: ['::1'] },
    'mx.closed.test': { A: ['127.0.0.2'] },
    [GMAIL]: { A: ['127.0.0.1'] },
    'outlook-com.olc.protection.outlook.com': { A: ['127.0.0.1'] },
    'mx01.mail.icloud.com': { A: ['127.0.0.1'] },
    'mx.shared.test': { A: ['127.0.0.1'] },
  });
});
after(() => dns.stop());

/** The shipped data with other limits: 'default', or a provider. */
function dataWith(changes: Record<string, Limits & { total?: Totals }>): ShapingData {
  const { default: common = {}, ...named } = changes;
  const plain = { ...SHIPPED, limits: { ...SHIPPED.limits, ...common } };
  return {
    ...plain,
    providers: SHIPPED.providers.map((provider) => {
      const { total = {}, ...limits } = named[provider.name] ?? {};
      const { tls: _, ...rest } = provider.limits;
      return { ...provider, limits: { ...rest, ...limits }, total };
    }),
  };
}

async function withSink(
  data: ShapingData,
  work: (sink: ScriptedSink, harness: Harness) => Promise<void>,
  { sink: options = {}, delivery = {} }: { sink?: SinkOptions; delivery?: Partial<Config['delivery']> } = {},
): Promise<void> {
  const sink = await startSink(options);
  const config = {
    dns: { servers: [`127.0.0.1:${dns.port}`] } as Config['dns'],
    delivery: { mx_port: sink.port, refuse_loopback_mx: false, backlog_per_connection: 1, ...delivery },
  };
  const harness = startSender(config, undefined, undefined, undefined, data);
  try {
    await work(sink, harness);
    assert.deepEqual(sink.violations, []);
  } finally {
    harness.stop();
    await sink.stop();
  }
}

const mail = (destination: string, count = 1) =>
  Array.from({ length: count }, (_, i) => ({ recipients: [`u${i}@${destination}`], destination }));
const allDelivered = (results: Parameters<typeof fates>[0][]) =>
  assert.deepEqual(new Set(results.flatMap(fates)), new Set(['delivered']));

test('forty domains of one provider have its connections together, and each gets its turn', async () => {
  await withSink(
    dataWith({}),
    async (sink, harness) => {
      const inputs = Array.from({ length: 40 }, (_, i) => mail(`google${i}.test`, 3)).flat();
      allDelivered(await harness.attemptAll(inputs));
      // The sink may hear of a new connection before it has seen that an old one is closed.
      assert.ok(sink.peakConnections <= 6, `${sink.peakConnections}`);
      assert.equal(sink.messages.length, 120);
      assert.deepEqual(new Set(harness.sites.map(({ site }) => site)), new Set(['google']));
      const slots = [...(harness.limitKeys?.entries() ?? [])].map(([name, { slot }]) => [
        name,
        slot.counts.sent,
      ]);
      assert.deepEqual(slots, [['google', 120]]);
    },
    { sink: { delays: { greeting: 5, dot: 2 } } },
  );
});

test('a connection carries no more messages than the provider wants', async () => {
  await withSink(dataWith({ apple: { max_connections: 1 } }), async (sink, harness) => {
    allDelivered(await harness.attemptAll(mail('apple.test', 12)));
    assert.equal(sink.connections, 3);
  });
});

test('the least of config and data holds', async () => {
  const delivery = { max_connections_per_destination: 2, max_messages_per_connection: 4 };
  await withSink(
    dataWith({}),
    async (sink, harness) => {
      allDelivered(await harness.attemptAll(mail('outlook.test', 16)));
      assert.ok(sink.peakConnections <= 3, `${sink.peakConnections}`);
      assert.ok(sink.connections >= 4);
    },
    { delivery, sink: { delays: { greeting: 20 } } },
  );
});

test('domains of no provider share the limits of their MX hosts; those of other hosts do not', async () => {
  await withSink(
    dataWith({ default: { max_connections: 2 } }),
    async (sink, harness) => {
      const inputs = [...mail('a.shared.test', 6), ...mail('b.shared.test', 6), ...mail('four.test', 6)];
      allDelivered(await harness.attemptAll(inputs));
      assert.ok(sink.peakConnections > 2 && sink.peakConnections <= 4, `${sink.peakConnections}`);
      const keys = [...(harness.limitKeys?.entries() ?? [])].map(([name]) => name);
      assert.deepEqual(keys.sort(), ['mx:mx.four.test', 'mx:mx.shared.test']);
    },
    { sink: { delays: { dot: 20 } } },
  );
});

test('messages go no faster than the provider takes them, whatever is waiting', async () => {
  await withSink(dataWith({ google: { messages_per_s: 20 } }), async (_sink, harness) => {
    const startMs = performance.now();
    const inputs = [...mail('google0.test', 12), ...mail('google1.test', 12)];
    allDelivered(await harness.attemptAll(inputs));
    const tookMs = performance.now() - startMs;
    // Five at once, then one each 62.5 ms.
    assert.ok(tookMs > 1100 && tookMs < 4000, `${tookMs}`);
  });
});

test('mail that a limit keeps for long goes back to the queue, and is no attempt', async () => {
  await withSink(dataWith({ google: { messages_per_h: 60 } }), async (sink, harness) => {
    const results = await harness.attemptAll(mail('google0.test', 4));
    assert.equal(sink.messages.length, 1);
    const waiting = results.filter((result) => outcomeOf(result).kind === 'deferred');
    assert.equal(waiting.length, 3);
    for (const result of waiting) {
      const outcome = outcomeOf(result);
      assert.ok(outcome.kind === 'deferred');
      assert.equal(outcome.reason, 'limit_reached');
      assert.equal(outcome.detail, 'messages_per_h of google');
      assert.equal(result.attempts, 0);
      const delayMs = outcome.retryAtMs - Date.now();
      assert.ok(delayMs > 55_000 && delayMs <= 60_000, `${delayMs}`);
    }
    // What comes meanwhile does not ask.
    const [later] = await harness.attemptAll(mail('google0.test'));
    assert.equal(
      outcomeOf(later as never).kind === 'deferred' && fates(later as never)[0],
      'deferred limit_reached',
    );
    harness.clockOffsetMs += 60_000;
    allDelivered(await harness.attemptAll(mail('google0.test')));
  });
});

test('a message that one host defers waits for its time at the next one, too', async () => {
  const options = { faults: { rcpt: '451 4.3.0 later' } } as const;
  await withSink(
    dataWith({ default: { messages_per_s: 2 } }),
    async (sink, harness) => {
      const second = await startSink({ host: '127.0.0.2', port: sink.port });
      const results = await harness.attemptAll(mail('both.test', 3));
      allDelivered(results);
      assert.equal(second.messages.length, 3);
      await second.stop();
    },
    { sink: options },
  );
});

test('limits in all hold beside those of the source', async () => {
  await withSink(
    dataWith({ google: { total: { max_connections: 2 } } }),
    async (sink, harness) => {
      allDelivered(await harness.attemptAll([...mail('google0.test', 6), ...mail('google1.test', 6)]));
      assert.equal(sink.peakConnections, 2);
      assert.deepEqual(
        [...(harness.limitKeys?.entries() ?? [])].map(([name]) => name),
        ['google', 'google *'],
      );
    },
    { sink: { delays: { dot: 10 } } },
  );
});

test('recipients of a transaction, idle time, retries and address family are as the data say', async () => {
  const limits: Limits = {
    recipients_per_transaction: 2,
    idle_connection_ms: 0,
    retry: { delays_ms: [5000, 70_000] },
    ip_family: 'ipv4',
  };
  await withSink(dataWith({ default: limits }), async (sink, harness) => {
    const many = { recipients: ['a@four.test', 'b@four.test', 'c@four.test'], destination: 'four.test' };
    allDelivered([await harness.attempt(many)]);
    assert.deepEqual(
      sink.messages.map(({ recipients }) => recipients.length),
      [2, 1],
    );
    await harness.attempt({ recipients: ['d@four.test'], destination: 'four.test' });
    assert.equal(sink.connections, 2, 'none is kept');
    for (const [attempts, wantedMs] of [
      [0, 5000],
      [1, 70_000],
      [7, 70_000],
    ] as const) {
      const result = await harness.attempt({
        recipients: ['defer-450@four.test'],
        destination: 'four.test',
        attempts,
      });
      const outcome = outcomeOf(result);
      assert.ok(outcome.kind === 'deferred');
      const delayMs = outcome.retryAtMs - Date.now();
      assert.ok(Math.abs(delayMs - wantedMs) < 1500, `${delayMs} for ${wantedMs}`);
    }
  });
});

test('a provider that wants TLS gets no mail without it', async () => {
  await withSink(dataWith({ google: { tls: 'required' } }), async (sink, harness) => {
    const result = await harness.attempt(mail('google0.test')[0] as never);
    assert.deepEqual(fates(result), ['deferred tls_failed']);
    assert.equal(sink.messages.length, 0);
    allDelivered([await harness.attempt(mail('outlook.test')[0] as never)]);
  });
});

test('connections that fail one after another pause the whole site', async () => {
  const limits: Limits = { connect_failures_before_pause: 2, pause_ms: 600_000 };
  await withSink(dataWith({ default: limits }), async (sink, harness) => {
    await harness.attemptAll(mail('closed.test', 3));
    const [key] = [...(harness.limitKeys?.entries() ?? [])];
    assert.equal(key?.[1].slot.closedBy, 'connect_failures');
    const result = await harness.attempt(mail('closed.test')[0] as never);
    assert.deepEqual(fates(result), ['deferred limit_reached']);
    allDelivered(await harness.attemptAll(mail('four.test')));
    assert.equal(sink.connections, 1);
  });
});

test('a smarthost has no limits but those of the config', async () => {
  const sink = await startSink({ delays: { dot: 20 } });
  const harness = startSender(
    {
      delivery: {
        smarthost: { host: '127.0.0.1', port: sink.port },
        backlog_per_connection: 1,
        max_connections_per_destination: 15,
      } as never,
    },
    undefined,
    undefined,
    undefined,
    dataWith({ default: { max_connections: 1, messages_per_h: 1 } }),
  );
  allDelivered(await harness.attemptAll(mail('smarthost', 60)));
  assert.ok(sink.peakConnections > 8);
  harness.stop();
  await sink.stop();
});
