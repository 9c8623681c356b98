import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onOneLine, printable, printableJson, printableLines } from '../../src/base/printable.ts';
import { Secrets } from '../../src/delivery/client/secrets.ts';
import { peerReply } from '../../src/delivery/outcome.ts';

/** Controls of both kinds, what turns the direction of writing, what ends a line. */
const ODD = [
  '\0',
  '\x1b',
  '\x7f',
  '\x80',
  '\x9b',
  '\x9f',
  '\u061c',
  '\u200e',
  '\u200f',
  '\u2028',
  '\u2029',
  '\u202e',
  '\u2066',
  '\u2069',
];

const PEER = { host: 'mx.test', address: '192.0.2.1', port: 25, source: '' };

test('text of others keeps nothing that steers a terminal or turns what is read', () => {
  for (const odd of ODD) {
    assert.equal(printable(`a${odd}b`), 'a?b');
    const reply = { code: 550, enhanced: '', lines: [`a${odd}b`, 'c'] };
    assert.equal(peerReply(reply, PEER, new Secrets()).text, 'a b\nc');
  }
  assert.equal(printable('Grüße, 你好 👋\u200d'), 'Grüße, 你好 👋\u200d');
});

test('JSON for people to look at means the same, without such characters', () => {
  for (const odd of ODD) {
    for (const value of [`a${odd}b`, { [odd]: [odd, `${odd}${odd}`] }]) {
      for (const indent of [0, 2]) {
        const json = printableJson(JSON.stringify(value, null, indent));
        assert.deepEqual(JSON.parse(json), value);
        assert.equal(printable(json, '?', '\n'), json);
      }
    }
  }
  const plain = JSON.stringify({ name: 'Grüße, 你好 👋' }, null, 2);
  assert.equal(printableJson(plain), plain);
});

test('runs of them are one space in a field; lines stay lines on a terminal', () => {
  assert.equal(onOneLine(`a${ODD.join('')}\r\nb`), 'a b');
  assert.equal(printableLines(`a\x9b\nb\u202e\n`), 'a?\nb?\n');
});
