import assert from 'node:assert/strict';
import { test } from 'node:test';
import { destinationKey, destinationOf, storedDestination } from '../../src/mail/destination.ts';
import { hopOfKey, isFailText, isOperatorKey, viaKey } from '../../src/mail/operator-keys.ts';
import { parseMailbox } from '../../src/protocol/address.ts';

test('a next hop has one key, however it is written', () => {
  const written = {
    'MX.Example.NET': 'via:mx.example.net:25',
    'mx.example.net.:587': 'via:mx.example.net:587',
    'b\u00fccher.test': 'via:xn--bcher-kva.test:25',
    'localhost:2525': 'via:localhost:2525',
    '192.0.2.1:2525': 'via:192.0.2.1:2525',
    '[192.0.2.1]': 'via:192.0.2.1:25',
    '2001:DB8::1': 'via:[2001:db8::1]:25',
    '[2001:db8:0::1]:2525': 'via:[2001:db8::1]:2525',
    '[IPv6:2001:db8::1]:2525': 'via:[2001:db8::1]:2525',
  };
  for (const [text, key] of Object.entries(written)) {
    assert.equal(viaKey(text), key, text);
    assert.equal(destinationKey(`via:${text}`), key, text);
  }
  assert.deepEqual(hopOfKey('via:[2001:db8::1]:2525'), { host: '2001:db8::1', port: 2525 });
  assert.deepEqual(hopOfKey('via:mx.example.net:587'), { host: 'mx.example.net', port: 587 });
  assert.equal(hopOfKey('mx.example.net'), null);
});

test('what is no next hop has no key', () => {
  for (const text of [
    '',
    ':25',
    'a b',
    'mx.test:0',
    'mx.test:65536',
    'mx.test:',
    'mx.test:x',
    '[mx.test]:25',
  ])
    assert.equal(viaKey(text), null, text);
  for (const text of [
    '-mx.test',
    `${'a.'.repeat(130)}test`,
    'mx.test\r\n',
    '[]',
    '[2001:db8::1',
    'u@mx.test',
  ])
    assert.equal(viaKey(text), null, text);
});

test('no address gives mail the key of an operator', () => {
  const domains = [
    'via:evil.test:25',
    'fail:a.test',
    'via\uff1aevil.test\uff1a25',
    'VIA:evil.test:25',
    '[via:evil]',
  ];
  const table = { smarthost: false, routed: new Set<string>() };
  for (const domain of domains) {
    const parsed = parseMailbox(`user@${domain}`);
    for (const made of [parsed?.domain, domain, domain.toLowerCase()])
      if (made !== undefined) {
        assert.equal(isOperatorKey(destinationOf(made, table)), false, made);
        assert.equal(isOperatorKey(storedDestination(made, table)), false, made);
      }
    if (!domain.startsWith('[')) assert.equal(parsed, null, domain);
  }
});

test('what an operator says is one line of bounded length', () => {
  for (const text of ['', 'no such customer', 'K\u00fcndigung \u{1f4ee}', 'x'.repeat(200)])
    assert.equal(isFailText(text), true, text);
  for (const text of ['x'.repeat(201), 'a\r\nb', 'a\u001b[31m', 'a\u202eb', '\ud800'])
    assert.equal(isFailText(text), false);
});
