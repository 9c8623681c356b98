import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Message } from '../../src/mail/message.ts';
import { readMessages, type Wire, writeMessage } from '../../src/mail/message-wire.ts';

const plain: Message = {
  queueId: '06dk00000000001',
  envelope: { reversePath: '', body: '7BIT', smtpUtf8: false, recipients: [] },
  trace: '',
  content: 0,
  sizeBytes: 0,
  receivedAtMs: 1,
  client: { address: 'unix', helo: '', protocol: 'SMTP', sessionId: 's' },
};

const full: Message = {
  queueId: '06dk00000000002',
  envelope: {
    reversePath: 'grün@exämple.test',
    body: 'BINARYMIME',
    smtpUtf8: true,
    ret: 'FULL',
    envid: 'a+2Bb',
    submitter: 'e+3Dmc2@x.test',
    recipients: [
      { address: 'a@x.test', domain: 'x.test', class: 'external', notify: 6, orcpt: 'rfc822;a@x.test' },
      { address: 'b@y.test', domain: 'y.test', class: 'relay', notify: 0 },
    ],
  },
  trace: 'Received: from c\r\n',
  content: 4096,
  sizeBytes: 2 ** 40,
  receivedAtMs: 1_800_000_000_000,
  receptionMs: 12.5,
  client: { address: '192.0.2.1', helo: 'c.test', protocol: 'ESMTP', sessionId: 's2' },
};

test('messages cross a structured clone as one flat array and come back equal', () => {
  const wire: Wire = [];
  for (const message of [plain, full, plain]) writeMessage(wire, message);
  assert.ok(wire.every((value) => value === null || typeof value !== 'object'));
  assert.deepEqual(readMessages(structuredClone(wire), 3), [plain, full, plain]);
});

test('a message written before there was a submitter is read', () => {
  const wire: Wire = [];
  writeMessage(wire, plain);
  assert.deepEqual(readMessages(wire.slice(0, -1), 1), [plain]);
});
