/** Which source mail leaves from in a delivery thread: real sinks, addresses of loopback as sources. */
import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import type { Outcome } from '../../src/mail/outcome.ts';
import { loadShaping, SHIPPED_SHAPING } from '../../src/shaping/shaping-file.ts';
import { DnsServer } from '../support/dns-server.ts';
import type { ScriptedSink } from '../support/scripted-sink.ts';
import { until } from '../support/wait.ts';
import { type Harness, outcomeOf, startSender, startSink } from './harness.ts';

const SHAPING = loadShaping({ file: SHIPPED_SHAPING, overrides_file: '', rollup: 'mx_set' }).data;
let dns: DnsServer;

before(async () => {
  const at = (exchange: string) => ({ MX: [[10, exchange]] as [number, string][] });
  dns = await DnsServer.start({
    'apple.test': at('mx01.mail.icloud.com'),
    'plain.test': at('mx.plain.test'),
    'six.test': at('mx.six.test'),
    'mx01.mail.icloud.com': { A: ['127.0.0.1'] },
    'mx.plain.test': { A: ['127.0.0.1'] },
    'mx.six.test': { AAAA: ['::1'] },
  });
});
after(() => dns.stop());

type Egress = Parameters<typeof configSchema.parse>[0];

async function withSender(
  egress: object,
  work: (harness: Harness, sink: ScriptedSink) => Promise<void>,
  plans: object[] = [],
): Promise<void> {
  const sink = await startSink({});
  const { egress: parsed, warmup } = configSchema.parse({ egress, warmup: plans } as Egress);
  const config = {
    dns: { servers: [`127.0.0.1:${dns.port}`] } as Config['dns'],
    delivery: { mx_port: sink.port, refuse_loopback_mx: false },
    egress: parsed,
    warmup,
  };
  const harness = startSender(config, undefined, undefined, undefined, SHAPING);
  try {
    await work(harness, sink);
    assert.deepEqual(sink.violations, []);
  } finally {
    harness.stop();
    await sink.stop();
  }
}

const S2 = { name: 's2', address: '127.0.0.2', ehlo_name: 's2.relay.test' };
const S3 = { name: 's3', address: '127.0.0.3', ehlo_name: 's3.relay.test' };
const pool = (name: string, sources: string[], more = {}) => ({
  name,
  members: sources.map((source) => ({ source })),
  ...more,
});
const rule = (name: string, match = {}) => ({ match, pool: name });
const to = (destination: string, more = {}) => ({ recipients: [`u@${destination}`], destination, ...more });
const sourceOf = (outcome: Outcome): string =>
  outcome.kind === 'delivered' ? (outcome.reply.peer.source ?? '') : JSON.stringify(outcome);

test('mail leaves from the address of its source, by its name, and from both of a pool', async () => {
  const egress = { sources: [S2, S3], pools: [pool('p', ['s2', 's3'])], routing: [rule('p')] };
  await withSender(egress, async (harness, sink) => {
    const results = await harness.attemptAll(Array.from({ length: 40 }, () => to('plain.test')));
    const from = results.map((result) => sourceOf(outcomeOf(result)));
    assert.deepEqual(new Set(from), new Set(['127.0.0.2', '127.0.0.3']));
    assert.ok(sink.commands.some((line) => line.endsWith('EHLO s2.relay.test')));
    assert.ok(sink.commands.some((line) => line.endsWith('EHLO s3.relay.test')));
  });
});

test('a rule by provider waits for the route; what no rule matches leaves from the default source', async () => {
  const egress = { sources: [S2], pools: [pool('p', ['s2'])], routing: [rule('p', { provider: 'apple' })] };
  await withSender(egress, async (harness) => {
    const results = await harness.attemptAll([to('apple.test'), to('plain.test'), to('apple.test')]);
    const from = results.map((result) => `${result.destination} ${sourceOf(outcomeOf(result))}`).sort();
    assert.deepEqual(from, ['apple.test 127.0.0.2', 'apple.test 127.0.0.2', 'plain.test 127.0.0.1']);
  });
});

test('hosts that the operator chose get mail from the default source', async () => {
  const egress = { sources: [S2], pools: [pool('p', ['s2'])], routing: [rule('p')] };
  await withSender(egress, async (harness, sink) => {
    const via = `via:127.0.0.1:${sink.port}`;
    assert.equal(
      sourceOf(outcomeOf(await harness.attempt(to('plain.test', { destination: via })))),
      '127.0.0.1',
    );
  });
});

test('a missing source: the pool falls back; without a fallback the mail waits, uncounted; back, it goes', async () => {
  const pools = [pool('p', ['s2'], { fallback_pool: 'q' }), pool('q', ['s3'])];
  await withSender({ sources: [S2, S3], pools, routing: [rule('p')] }, async (harness) => {
    const sent = async () => sourceOf(outcomeOf(await harness.attempt(to('plain.test'))));
    assert.equal(await sent(), '127.0.0.2');
    harness.sender.setMissingSources(['s2']);
    assert.equal(await sent(), '127.0.0.3');
    harness.sender.setMissingSources(['s2', 's3']);
    const result = await harness.attempt(to('plain.test'));
    const outcome = outcomeOf(result);
    assert.deepEqual([outcome.kind, result.attempts], ['deferred', 0]);
    assert.equal(outcome.kind === 'deferred' && outcome.reason, 'limit_reached');
    assert.equal(outcome.kind === 'deferred' && outcome.detail, 'no source of pool p may send there now');
    // A reload keeps what is known of addresses.
    harness.sender.reconfigure(harness.config);
    assert.equal(outcomeOf(await harness.attempt(to('plain.test'))).kind, 'deferred');
    harness.sender.setMissingSources([]);
    assert.equal(await sent(), '127.0.0.2');
  });
});

test('a source that a reload takes away: its waiting mail leaves from another one', async () => {
  const egress = { sources: [S2, S3], pools: [pool('p', ['s2'])], routing: [rule('p')] };
  await withSender(egress, async (harness) => {
    assert.equal(sourceOf(outcomeOf(await harness.attempt(to('plain.test')))), '127.0.0.2');
    const now = {
      ...harness.config,
      egress: { ...harness.config.egress, sources: [], pools: [], routing: [] },
    };
    harness.sender.reconfigure(now);
    assert.equal(sourceOf(outcomeOf(await harness.attempt(to('plain.test')))), '127.0.0.1');
  });
});

test('hosts of the source’s family only', async () => {
  const egress = { sources: [S2], pools: [pool('p', ['s2'])], routing: [rule('p')] };
  await withSender(egress, async (harness) => {
    const outcome = outcomeOf(await harness.attempt(to('six.test')));
    assert.equal(outcome.kind, 'deferred');
    assert.match(
      outcome.kind === 'deferred' ? outcome.detail : '',
      /no host has an IPv4 address, to leave for from source s2/,
    );
  });
});

test('no more connections than the source may have', async () => {
  const egress = {
    sources: [{ ...S2, max_connections: 1 }],
    pools: [pool('p', ['s2'])],
    routing: [rule('p')],
  };
  await withSender(egress, async (harness, sink) => {
    const results = await harness.attemptAll(Array.from({ length: 30 }, () => to('plain.test')));
    assert.deepEqual(new Set(results.map((one) => sourceOf(outcomeOf(one)))), new Set(['127.0.0.2']));
    assert.equal(sink.peakConnections, 1);
  });
});

test('what a limit keeps from its source leaves by the overflow pool of its warm-up; without one it waits', async () => {
  const pools = [pool('p', ['s2']), pool('q', ['s3'])];
  const egress = { sources: [S2, S3], pools, routing: [rule('p')] };
  const closed = async (harness: Harness): Promise<Outcome[]> => {
    harness.limitKeys?.close('mx:mx.plain.test s2', 'warmup', Date.now() + 3_600_000);
    const first = await harness.attemptAll([to('plain.test'), to('plain.test')]);
    return [...first, await harness.attempt(to('plain.test'))].map((one) => outcomeOf(one));
  };
  await withSender(
    egress,
    async (harness) => {
      assert.deepEqual((await closed(harness)).map(sourceOf), Array(3).fill('127.0.0.3'));
      // The pool that it overflows to is closed, too.
      harness.limitKeys?.close('mx:mx.plain.test s3', 'warmup', Date.now() + 3_600_000);
      const last = outcomeOf(await harness.attempt(to('plain.test')));
      assert.equal(last.kind === 'deferred' && last.reason, 'limit_reached');
    },
    [{ source: 's2', providers: ['*'], overflow_pool: 'q' }],
  );
  await withSender(egress, async (harness) => {
    for (const outcome of await closed(harness))
      assert.equal(outcome.kind === 'deferred' && outcome.reason, 'limit_reached');
  });
});

test('mail that rules moved leaves by the other pool, at that site', async () => {
  const pools = [pool('p', ['s2']), pool('q', ['s3'])];
  await withSender({ sources: [S2, S3], pools, routing: [rule('p')] }, async (harness) => {
    const from = async (target: 'source' | 'provider' | 'from_domain', value: string, site: string) => {
      harness.sender.departures.setMoves([{ target, value, site, pool: 'q' }]);
      return sourceOf(outcomeOf(await harness.attempt(to('plain.test', { from: 'a@Shop.test' }))));
    };
    const site = 'mx:mx.plain.test';
    assert.equal(await from('from_domain', 'shop.test', site), '127.0.0.3');
    assert.equal(await from('from_domain', 'other.test', site), '127.0.0.2');
    assert.equal(await from('provider', site, site), '127.0.0.3');
    assert.equal(await from('provider', 'google', 'google'), '127.0.0.2');
    assert.equal(await from('source', 's2', site), '127.0.0.3');
    assert.equal(await from('source', 's3', site), '127.0.0.2');
    harness.sender.setMissingSources(['s3']);
    const waits = outcomeOf(await harness.attempt(to('plain.test')));
    assert.equal(sourceOf(waits), '127.0.0.2', 'what is not moved goes on');
    assert.match(await from('provider', site, site), /no source of pool q may send there now/);
  });
});

/** A SOCKS5 proxy; `refuses` answers with this code instead of connecting. */
async function socks(
  t: { after(work: () => void): void },
  refuses = 0,
): Promise<{ port: number; asked: number }> {
  const state = { port: 0, asked: 0 };
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('data', () => {
      socket.write(Buffer.of(5, 0));
      socket.once('data', (request) => {
        state.asked++;
        if (refuses !== 0) {
          socket.end(Buffer.of(5, refuses, 0, 1, 0, 0, 0, 0, 0, 0));
          return;
        }
        const host = [...request.subarray(4, 8)].join('.');
        const peer = connect({ host, port: request.readUInt16BE(8), localAddress: '127.0.0.9' }, () => {
          socket.write(Buffer.of(5, 0, 0, 1, 127, 0, 0, 9, 0, 0));
          socket.pipe(peer).pipe(socket);
        });
        peer.on('error', () => socket.destroy());
        sockets.add(peer);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  state.port = (server.address() as AddressInfo).port;
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return state;
}

test('through SOCKS5', async (t) => {
  const proxy = await socks(t);
  const far = { name: 'far', proxy: `socks5://127.0.0.1:${proxy.port}` };
  await withSender(
    { sources: [far], pools: [pool('p', ['far'])], routing: [rule('p')] },
    async (harness, sink) => {
      assert.equal(outcomeOf(await harness.attempt(to('plain.test'))).kind, 'delivered');
      assert.equal(proxy.asked, 1);
      await until(() => sink.messages.length === 1, 'the message is there');
    },
  );
});

test('a proxy that fails is not the peer’s fault: no attempt counts, and other sources take over', async (t) => {
  const proxy = await socks(t, 1);
  const far = { name: 'far', proxy: `socks5://127.0.0.1:${proxy.port}` };
  const pools = [pool('p', ['far'], { fallback_pool: 'q' }), pool('q', ['s2'])];
  await withSender({ sources: [far, S2], pools, routing: [rule('p')] }, async (harness) => {
    const first = await harness.attempt(to('plain.test'));
    const outcome = outcomeOf(first);
    assert.equal(outcome.kind === 'deferred' && outcome.reason, 'local_trouble');
    assert.match(outcome.kind === 'deferred' ? outcome.detail : '', /the proxy on the way to .*EPROTO/);
    for (let i = 0; i < 3; i++) await harness.attempt(to('plain.test'));
    // After connections that failed one after another, the source is passed over for a while.
    assert.equal(sourceOf(outcomeOf(await harness.attempt(to('plain.test')))), '127.0.0.2');
  });
});
