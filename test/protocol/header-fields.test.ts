import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Arena, FIELD_UNKNOWN, scanContent } from '../../src/native.ts';
import { fieldsNamed, messageIdIn, messageIdOf } from '../../src/protocol/header-fields.ts';

const arenaOf = (content: Buffer, at: number): Pick<Arena, 'fieldAt' | 'textAt' | 'head'> => ({
  fieldAt: () => at,
  textAt: (_, from, to) => content.toString('latin1', from, to),
  head: (_, maxBytes) => content.subarray(0, maxBytes),
});

/** The Message-ID as the reactor has found it, and as it is looked for in a file. */
function messageId(header: string): string {
  const content = Buffer.from(header);
  const { messageIdAt: place } = scanContent(content, 0, false, false, 0);
  const found = messageIdIn(arenaOf(content, place), 0);
  assert.equal(messageIdIn(arenaOf(content, FIELD_UNKNOWN), 0), found);
  assert.equal(messageIdOf(content), found);
  return found;
}

test('a Message-ID is kept without its brackets, however it is written', () => {
  assert.equal(messageId('From: a\r\nMessage-ID: <1@a.test>\r\n\r\nx'), '1@a.test');
  assert.equal(messageId('MESSAGE-ID\t:\r\n <1@a.test> (c)\r\n\r\n'), '1@a.test');
  assert.equal(messageId('Message-ID:<1@\r\n a.test>\r\n'), '1@ a.test');
  assert.equal(messageId('Message-ID: 1@a.test \r\nTo: b\r\n\r\n'), '1@a.test');
  assert.equal(messageId('Message-ID: <ü@a.test>\r\n\r\n'), 'ü@a.test');
  assert.equal(messageId('Message-ID:\r\nTo: <b@c>\r\n\r\n'), '');
  assert.equal(messageId('To: b\r\n\r\nMessage-ID: <1@a.test>\r\n'), '');
  assert.equal(messageId(`Message-ID: <${'x'.repeat(300)}@a.test>\r\n\r\n`), 'x'.repeat(255));
  assert.equal(messageId('Message-ID: <1@a.test'), '<1@a.test');
});

test('kept header fields: the first of each name, unfolded, decoded, in at most 1,000 octets', () => {
  const header =
    'X-Campaign-ID: spring\r\nSubject: =?utf-8?q?M=C3=A4rz?=\r\n =?utf-8?b?w6Q=?=\r\nx-campaign-id: second\r\n' +
    `X-Long: ${'ä'.repeat(600)}\r\nX-Esc: a\x1b[2Jb\r\nX-Raw: \xe4\r\n\r\nX-Body: no\r\n`;
  const content = Buffer.concat(
    header
      .split('\xe4')
      .flatMap((text, i) => (i === 0 ? [Buffer.from(text)] : [Buffer.from([0xe4]), Buffer.from(text)])),
  );
  const names = new Set(['x-campaign-id', 'subject', 'x-long', 'x-esc', 'x-raw', 'x-body', 'x-none']);
  const kept = fieldsNamed(arenaOf(content, FIELD_UNKNOWN), 0, names);
  assert.deepEqual(kept, [
    { name: 'x-campaign-id', value: 'spring' },
    { name: 'subject', value: 'Märzä' },
    { name: 'x-long', value: 'ä'.repeat(500) },
    { name: 'x-esc', value: 'a [2Jb' },
    { name: 'x-raw', value: 'ä' },
  ]);
});
