import assert from 'node:assert/strict';
import { test } from 'node:test';
import { printable } from '../../src/base/printable.ts';
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
