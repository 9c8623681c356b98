import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import {
  clientNetwork,
  formatIp,
  formatNetwork,
  NetworkSet,
  neighbourhood,
  parseIp,
  parseNetwork,
} from '../../src/base/ip.ts';

const address = fc.oneof(fc.ipV4(), fc.ipV6());

test('whatever is an address is read, and written back as the same; nothing else is', () => {
  fc.assert(
    fc.property(address, (text) => {
      const ip = parseIp(text);
      assert(ip !== null);
      const again = parseIp(formatIp(ip));
      assert.deepEqual(again, ip);
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f.:]{0,20}$/)), (text) => {
      if (isIP(text) === 0) assert.equal(parseIp(text), null);
    }),
  );
  assert.equal(parseIp('1.2.3.04'), null);
  assert.deepEqual(parseIp('::ffff:192.0.2.1'), parseIp('192.0.2.1'), 'a mapped address is the one it maps');
});

test('networks hold what ipaddr.js says they hold', () => {
  const v4 = fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 }), fc.ipV4());
  const v6 = fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 }), fc.ipV6());
  fc.assert(
    fc.property(fc.oneof(v4, v6), fc.boolean(), ([base, bits, other], near) => {
      const probe = near ? base : other;
      const [network, candidate] = [ipaddr.parse(base), ipaddr.parse(probe)];
      // Mapped addresses are IPv4 here and IPv6 there.
      if (network.kind() === 'ipv6' && (network as ipaddr.IPv6).isIPv4MappedAddress()) return;
      if (candidate.kind() === 'ipv6' && (candidate as ipaddr.IPv6).isIPv4MappedAddress()) return;
      const within = (candidate as ipaddr.IPv4).match(network as ipaddr.IPv4, bits);
      assert.equal(new NetworkSet([`${base}/${bits}`]).has(parseIp(probe)), within);
    }),
  );
});

test('networks are written as they are read, without their host bits', () => {
  for (const [given, written] of [
    ['192.0.2.77/24', '192.0.2.0/24'],
    ['192.0.2.77', '192.0.2.77'],
    ['192.0.2.77/32', '192.0.2.77'],
    ['2001:DB8::1/32', '2001:db8::/32'],
    ['::/0', '::/0'],
    ['0.0.0.0/0', '0.0.0.0/0'],
  ] as const) {
    const network = parseNetwork(given);
    assert(network !== null);
    assert.equal(formatNetwork(network), written);
  }
  for (const bad of ['', '1.2.3.4/33', '1.2.3.4/', '1.2.3.4/08', '::/129', 'example.com', '1.2.3/8'])
    assert.equal(parseNetwork(bad), null, bad);
});

test('a client is its IPv4 address or its /64, a neighbourhood the /24 or /64', () => {
  const of = (text: string) => parseIp(text) ?? assert.fail();
  assert.equal(formatNetwork(clientNetwork(of('192.0.2.7'))), '192.0.2.7');
  assert.equal(formatNetwork(clientNetwork(of('2001:db8::7'))), '2001:db8::/64');
  assert.equal(formatNetwork(neighbourhood(of('192.0.2.7'))), '192.0.2.0/24');
  assert.equal(formatNetwork(neighbourhood(of('2001:db8::7'))), '2001:db8::/64');
});

test('an address is the same however it is written, and no other one', () => {
  const forms = [
    ['::c000:201', '::192.0.2.1', '0:0:0:0:0:0:192.0.2.1', '0::c000:0201'],
    ['192.0.2.1', '::ffff:192.0.2.1', '::FFFF:c000:201', '0:0:0:0:0:ffff:192.0.2.1'],
    ['::ffff:0:c000:201', '::ffff:0:192.0.2.1'],
    ['64:ff9b::c000:201', '64:ff9b::192.0.2.1'],
    ['fe80::1', 'fe80::1%eth0.1', 'fe80::0.0.0.1%1.2.3.4'],
    ['::1', '::0.0.0.1'],
    ['::', '::0.0.0.0'],
    ['0.0.0.1', '::ffff:0.0.0.1'],
  ];
  const read = forms.map((same) => new Set(same.map((text) => String(parseIp(text)))));
  assert.deepEqual(
    read.map((same) => same.size),
    forms.map(() => 1),
  );
  assert.equal(new Set(read.flatMap((same) => [...same])).size, forms.length);
  assert.ok(!new NetworkSet(['192.0.2.0/24']).has(parseIp('::192.0.2.1')));
});
