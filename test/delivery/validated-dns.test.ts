import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { encode } from 'dns-packet';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { ValidatedDns } from '../../src/delivery/names/validated-dns.ts';
import { DnsServer } from '../support/dns-server.ts';

const HEX = 'ab'.repeat(32);
const NAMES = {
  'signed.test': { MX: [[10, 'MX.signed.test']] as [number, string][], secure: true },
  'plain.test': { MX: [[10, 'mx.plain.test']] as [number, string][] },
  'null.test': { MX: [[0, '.']] as [number, string][] },
  'mx.signed.test': { A: ['192.0.2.1'], AAAA: ['2001:db8::1'], secure: true },
  'alias.test': { CNAME: 'mx.signed.test', secure: true },
  '_25._tcp.mx.signed.test': { TLSA: [[3, 1, 1, HEX]] as [number, number, number, string][], secure: true },
  'big.test': { A: ['192.0.2.7'], fault: 'truncate' as const, secure: true },
  'short.test': { A: ['192.0.2.8'], ttl: 0 },
  'broken.test': { fault: 'SERVFAIL' as const },
  'mute.test': { fault: 'timeout' as const },
};
const rulesOf = (rules: Partial<Config['dns']>): Config['dns'] => configSchema.parse({ dns: rules }).dns;

async function withDns(
  rules: Partial<Config['dns']>,
  work: (dns: ValidatedDns, server: DnsServer) => Promise<void>,
): Promise<void> {
  const server = await DnsServer.start(NAMES);
  try {
    const defaults = { servers: [server.address], tries: 1, timeout_ms: 1000 };
    await work(new ValidatedDns({ rules: rulesOf({ ...defaults, ...rules }) }), server);
  } finally {
    await server.stop();
  }
}

test('answers say whether they are validated', async () => {
  await withDns({}, async (dns) => {
    assert.deepEqual(await dns.mx('signed.test'), {
      kind: 'found',
      records: [{ preference: 10, exchange: 'mx.signed.test' }],
      secure: true,
      canonical: 'signed.test',
    });
    const plain = await dns.mx('plain.test');
    assert.ok(plain.kind === 'found' && plain.secure === false);
    const nothing = await dns.mx('null.test');
    assert.ok(nothing.kind === 'found' && nothing.records[0]?.exchange === '');
    const alias = await dns.addresses('Alias.test', 4);
    assert.ok(alias.kind === 'found' && alias.canonical === 'mx.signed.test' && alias.secure === true);
    const six = await dns.addresses('mx.signed.test', 6);
    assert.ok(six.kind === 'found' && six.records[0] === '2001:db8::1');
    const tlsa = await dns.tlsa('_25._tcp.mx.signed.test');
    assert.ok(tlsa.kind === 'found');
    assert.deepEqual(tlsa.records, [{ usage: 3, selector: 1, matching: 1, hex: HEX }]);
  });
});

test('what is missing, what fails, what DNS cannot carry', async () => {
  await withDns({ timeout_ms: 150, tries: 2 }, async (dns, server) => {
    assert.deepEqual(await dns.mx('nowhere.test'), { kind: 'no-name' });
    assert.deepEqual(await dns.tlsa('signed.test'), { kind: 'no-record' });
    assert.deepEqual(await dns.mx('broken.test'), { kind: 'temporary', detail: 'SERVFAIL' });
    assert.deepEqual(await dns.mx('mute.test'), { kind: 'temporary', detail: 'ETIMEOUT' });
    assert.equal(server.asked('MX mute.test'), 2);
    for (const name of ['', 'a..test', `${'x'.repeat(64)}.test`, `${'x.'.repeat(130)}test`, 'a b.test'])
      assert.deepEqual(await dns.mx(name), { kind: 'no-name' }, name);
  });
});

test('equal questions are asked once and kept as long as their TTL; failures are not', async () => {
  await withDns({}, async (dns, server) => {
    await Promise.all([dns.mx('signed.test'), dns.mx('signed.test')]);
    for (let i = 0; i < 2; i++) {
      await dns.mx('signed.test');
      await dns.mx('nowhere.test');
      await dns.addresses('short.test', 4);
      await dns.mx('broken.test');
    }
    const asked = ['MX signed.test', 'MX nowhere.test', 'A short.test', 'MX broken.test'];
    assert.deepEqual(
      asked.map((question) => server.asked(question)),
      [1, 1, 2, 2],
    );
  });
  await withDns({ cache_max_entries: 0 }, async (dns, server) => {
    await dns.mx('signed.test');
    await dns.mx('signed.test');
    assert.equal(server.queries.length, 2);
  });
});

test('an answer that does not fit is fetched over TCP; hundreds at a time all come', async () => {
  await withDns({ timeout_ms: 10_000 }, async (dns, server) => {
    const answer = await dns.addresses('big.test', 4);
    assert.ok(answer.kind === 'found' && answer.records[0] === '192.0.2.7' && answer.secure === true);
    assert.equal(server.asked('A big.test'), 2);
    const many = await Promise.all(Array.from({ length: 500 }, (_, i) => dns.mx(`n${i}.test`)));
    assert.ok(many.every(({ kind }) => kind === 'no-name'));
  });
});

test('replies with another id, question or sender, and garbage, are passed over', async () => {
  const server = createSocket('udp4');
  const stranger = createSocket('udp4');
  const bound = (socket: Socket) => {
    socket.bind(0, '127.0.0.1');
    return once(socket, 'listening');
  };
  await Promise.all([bound(server), bound(stranger)]);
  const reply = (id: number, name: string, address: string): Buffer =>
    encode({
      type: 'response',
      id,
      flags: 0x81a0,
      questions: [{ type: 'A', name }],
      answers: [{ type: 'A', name, ttl: 60, data: address }],
    });
  const ids = new Set<number>();
  const ports = new Set<number>();
  server.on('message', (question, { port }) => {
    const id = question.readUInt16BE(0);
    ids.add(id);
    ports.add(port);
    stranger.send(reply(id, 'x.test', '203.0.113.1'), port, '127.0.0.1', () => {
      server.send(reply((id + 1) & 0xffff, 'x.test', '203.0.113.2'), port);
      server.send(reply(id, 'y.test', '203.0.113.3'), port);
      server.send(Buffer.from('garbage'), port);
      server.send(question, port); // no reply
      server.send(reply(id, 'x.test', '192.0.2.1'), port);
    });
  });
  const rules = rulesOf({ servers: [`127.0.0.1:${server.address().port}`], cache_max_entries: 0 });
  const dns = new ValidatedDns({ rules });
  for (let i = 0; i < 20; i++) {
    const answer = await dns.addresses('x.test', 4);
    assert.ok(answer.kind === 'found');
    assert.deepEqual(answer.records, ['192.0.2.1']);
  }
  assert.ok(ids.size > 15 && ports.size > 10, 'ids and ports cannot be foretold');
  server.close();
  stranger.close();
});

test('without servers in the config those of the system are asked, one after another', async () => {
  const server = await DnsServer.start(NAMES);
  const rules = rulesOf({ tries: 2, timeout_ms: 100 });
  const systemServers = () => ['127.0.0.1:1', server.address];
  const answer = await new ValidatedDns({ rules, systemServers }).mx('signed.test');
  assert.equal(answer.kind, 'found');
  const none = await new ValidatedDns({ rules, systemServers: () => [] }).mx('signed.test');
  assert.equal(none.kind, 'temporary');
  await server.stop();
});
