import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onOneLine, printable, printableJson, printableLines } from '../../src/base/printable.ts';
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

test('text of others keeps nothing that steers a terminal or turns what is read', () => {
  for (const odd of ODD) {
    assert.equal(printable(`a${odd}b`), 'a?b');
    const reply = { code: 550, enhanced: '', lines: [`a${odd}b`, 'c'] };
    assert.equal(peerReply(reply, 'mx.test').text, 'a b\nc');
  }
  assert.equal(printable('Grüße, 你好 👋\u200d'), 'Grüße, 你好 👋\u200d');
});

test('JSON keeps its meaning, and shows nothing of the kind', () => {
  const value = { [`k${ODD.join('')}`]: ODD.map((odd) => `a${odd}b`), plain: 'Grüße 👋', nested: [null, 1.5, '\\u009b'] };
  for (const json of [JSON.stringify(value), JSON.stringify(value, null, 2)]) {
    const shown = printableJson(json);
    assert.deepEqual(JSON.parse(shown), value);
    assert.equal(printable(shown, '?', '\n'), shown);
  }
  assert.equal(printableJson('{"a":"ü"}'), '{"a":"ü"}');
});

test('runs of them are one space in a field; lines stay lines on a terminal', () => {
  assert.equal(onOneLine(`a${ODD.join('')}\r\nb`), 'a b');
  assert.equal(printableLines(`a\x9b\nb\u202e\n`), 'a?\nb?\n');
});
