/** The PROXY header: C++ and TypeScript find the same end in anything; what is found is read without surprises. */
import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { proxyExtent as nativeExtent } from '../../src/native.ts';
import { parseProxyHeader, proxyExtent } from '../../src/protocol/proxy-header.ts';

const V2 = '\r\n\r\n\0\r\nQUIT\n';
const byte = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
const octets = (maxLength: number) => fc.array(byte, { maxLength }).map((all) => all.join(''));
const v2 = fc
  .tuple(
    fc.constantFrom(0x20, 0x21, 0x22, 0x11),
    fc.constantFrom(0, 0x11, 0x12, 0x21, 0x31, 0x44),
    octets(60),
    fc.integer({ min: -3, max: 3 }),
  )
  .map(([command, family, body, off]) => {
    const length = Math.max(0, body.length + off);
    return V2 + String.fromCharCode(command, family, length >> 8, length & 255) + body;
  });
const v1 = fc
  .tuple(
    fc.constantFrom('TCP4', 'TCP6', 'UNKNOWN', 'UDP'),
    fc.oneof(fc.ipV4(), fc.ipV6(), octets(5)),
    fc.oneof(fc.ipV4(), fc.ipV6()),
    fc.nat(70_000),
    fc.constantFrom('\r\n', '\n', '', ' x\r\n'),
  )
  .map(([family, from, to, port, end]) => `PROXY ${family} ${from} ${to} ${port} 25${end}`);
const input = fc.oneof(
  octets(40),
  v1,
  v2,
  fc.tuple(v1, octets(200)).map((parts) => parts.join('')),
  fc.tuple(v2, octets(20)).map((parts) => parts.join('')),
  fc.tuple(v2, fc.nat(30)).map(([text, cut]) => text.slice(0, cut)),
  fc.tuple(v1, fc.nat(30)).map(([text, cut]) => text.slice(0, cut)),
  fc.constant(`${V2}\x21\x11\xff\xff`),
  octets(120).map((text) => `PROXY ${text.padEnd(120, 'x')}`),
);

test('the native extent and its twin agree on any octets', () => {
  fc.assert(
    fc.property(input, (text) => {
      const extent = proxyExtent(text);
      assert.equal(nativeExtent(Buffer.from(text, 'latin1')), extent);
      assert.ok(extent <= text.length);
    }),
    { numRuns: 5000 },
  );
});

test('a header that is understood names an address or nobody; what follows it does not matter', () => {
  let understood = 0;
  fc.assert(
    fc.property(input, octets(5), (text, more) => {
      const extent = proxyExtent(text);
      if (extent <= 0) return;
      assert.equal(proxyExtent(text + more), extent);
      const header = parseProxyHeader(text.slice(0, extent));
      if (header === null) return;
      understood++;
      if (header.source !== null) assert.notEqual(isIP(header.source), 0, header.source);
    }),
    { numRuns: 5000 },
  );
  assert.ok(understood > 100, `${understood} were understood`);
});

test('the examples of the specification', () => {
  const read = (text: string) => parseProxyHeader(text)?.source;
  assert.equal(read('PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n'), '192.168.0.1');
  assert.equal(read('PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n'), '2001:db8::1');
  assert.equal(read('PROXY UNKNOWN\r\n'), null);
  assert.equal(
    read('PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n'),
    null,
    'what follows UNKNOWN is passed over',
  );
  assert.equal(read('PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n'), undefined);
  assert.equal(read('PROXY TCP4 2001:db8::1 192.168.0.11 1 443\r\n'), undefined);
  const ipv6 = `\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01${'\0'.repeat(16)}\x10\0\0\x19`;
  assert.equal(read(`${V2}\x21\x21\0\x24${ipv6}`), '192.0.2.1', 'mapped');
  assert.equal(read(`${V2}\x21\x31\0\x02ab`), null, 'a Unix socket');
});
