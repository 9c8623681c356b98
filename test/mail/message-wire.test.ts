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
  client: {
    address: '192.0.2.1',
    helo: 'c.test',
    protocol: 'ESMTP',
    sessionId: 's2',
    listener: 'submission',
    port: 51_234,
    user: 'ann',
  },
  messageId: 'grün@exämple.test',
  headers: [{ name: 'x-campaign-id', value: 'März' }],
};

test('messages cross a structured clone as one flat array and come back equal', () => {
  const wire: Wire = [];
  for (const message of [plain, full, plain]) writeMessage(wire, message);
  assert.ok(wire.every((value) => value === null || typeof value !== 'object'));
  assert.deepEqual(readMessages(structuredClone(wire), 3), [plain, full, plain]);
});

test('messages that older relays wrote into a journal are read: without what was kept later', () => {
  const wire: Wire = [];
  writeMessage(wire, plain);
  const submitter = 6;
  const messageId = 4;
  for (const missing of [submitter, messageId])
    assert.deepEqual(readMessages(wire.slice(0, -missing), 1), [plain]);
});
