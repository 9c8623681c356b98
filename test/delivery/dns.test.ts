import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { Dns } from '../../src/delivery/names/dns.ts';
import { DnsServer } from '../support/dns-server.ts';

const NAMES = {
  'a.test': { A: ['192.0.2.1', '192.0.2.2'], ttl: 30 },
  'zero.test': { A: ['192.0.2.3'], ttl: 0 },
  'm.test': { MX: [[1, 'a.test'] as [number, string]] },
  'broken.test': { fault: 'SERVFAIL' as const },
};

async function withDns(
  rules: Partial<Config['dns']>,
  work: (dns: Dns, server: DnsServer) => Promise<void>,
): Promise<void> {
  const server = await DnsServer.start(NAMES);
  try {
    await work(
      new Dns(configSchema.parse({ dns: { servers: [server.address], tries: 1, ...rules } }).dns),
      server,
    );
  } finally {
    await server.stop();
  }
}

test('an answer is asked for once and kept', async () => {
  await withDns({}, async (dns, server) => {
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(await dns.addresses('a.test', 4), {
        kind: 'found',
        records: ['192.0.2.1', '192.0.2.2'],
      });
      assert.deepEqual(await dns.mx('m.test'), {
        kind: 'found',
        records: [{ preference: 1, exchange: 'a.test' }],
      });
    }
    assert.deepEqual(server.queries, ['A a.test', 'MX m.test']);
  });
});

test('equal questions at the same time are asked once', async () => {
  await withDns({}, async (dns, server) => {
    await Promise.all(Array.from({ length: 20 }, () => dns.addresses('a.test', 4)));
    assert.deepEqual(server.queries, ['A a.test']);
  });
});

test('missing names and missing records are remembered too', async () => {
  await withDns({}, async (dns, server) => {
    for (let i = 0; i < 2; i++) {
      assert.deepEqual(await dns.mx('nowhere.test'), { kind: 'no-name' });
      assert.deepEqual(await dns.mx('a.test'), { kind: 'no-record' });
    }
    assert.deepEqual(server.queries, ['MX nowhere.test', 'MX a.test']);
  });
});

test('a failure is asked again', async () => {
  await withDns({}, async (dns, server) => {
    for (let i = 0; i < 2; i++)
      assert.deepEqual(await dns.mx('broken.test'), { kind: 'temporary', detail: 'SERVFAIL' });
    assert.equal(server.asked('MX broken.test'), 2);
  });
});

const AGAIN: [name: string, rules: Partial<Config['dns']>, ask: (dns: Dns) => Promise<unknown>][] = [
  ['cache_max_entries 0 keeps nothing', { cache_max_entries: 0 }, (dns) => dns.addresses('a.test', 4)],
  ['cache_max_ttl_ms bounds the TTL', { cache_max_ttl_ms: 0 }, (dns) => dns.addresses('a.test', 4)],
  ['cache_max_ttl_ms bounds what is missing', { cache_max_ttl_ms: 0 }, (dns) => dns.mx('nowhere.test')],
  ['negative_ttl_ms 0 forgets what is missing', { negative_ttl_ms: 0 }, (dns) => dns.mx('nowhere.test')],
  ['mx_ttl_ms 0 keeps no MX', { mx_ttl_ms: 0 }, (dns) => dns.mx('m.test')],
  ['a TTL of 0 is obeyed', {}, (dns) => dns.addresses('zero.test', 4)],
];

for (const [name, rules, ask] of AGAIN) {
  test(name, async () => {
    await withDns(rules, async (dns, server) => {
      await ask(dns);
      await ask(dns);
      assert.equal(server.queries.length, 2);
    });
  });
}

test('timeout_ms and tries bound a question nobody answers', async () => {
  const server = await DnsServer.start({ 'mute.test': { fault: 'timeout' } });
  const rules = { servers: [server.address], timeout_ms: 100, tries: 2 };
  const dns = new Dns(configSchema.parse({ dns: rules }).dns);
  assert.deepEqual(await dns.mx('mute.test'), { kind: 'temporary', detail: 'ETIMEOUT' });
  assert.equal(server.asked('MX mute.test'), 2);
  await server.stop();
});
