import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Message } from '../../src/mail/message.ts';
import { REVERSE_PATH_AT, readRecord, recordOf } from '../../src/mail/message-record.ts';
import { readMessages, writeMessage } from '../../src/mail/message-wire.ts';
import type { Wire } from '../../src/mail/wire.ts';

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
    tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', verified: true },
  },
  messageId: 'grün@exämple.test',
  originalQueueId: '06dk00000000001',
  headers: [{ name: 'x-campaign-id', value: 'März' }],
  attributes: {
    tenant: 'shop',
    campaign: 'März',
    class: 'bulk',
    pool: 'warm',
    metadata: '{"order":{"id":7}}',
    deadlineMs: 1_800_000_600_000,
  },
  attachments: [{ name: 'a.pdf', type: 'application/pdf', sizeBytes: 70_000, offset: 512 }],
};

test('messages cross a structured clone as one flat array and come back equal', () => {
  const wire: Wire = [];
  for (const message of [plain, full, plain]) writeMessage(wire, message);
  assert.ok(wire.every((value) => value === null || typeof value !== 'object'));
  assert.deepEqual(readMessages(structuredClone(wire), 3), [plain, full, plain]);
});

test('what few messages have comes back where a message has only one such value', () => {
  const { envelope, client } = full;
  const some: Message[] = [
    { ...plain, client: { ...plain.client, user: 'ann' } },
    { ...plain, envelope: { ...plain.envelope, submitter: envelope.submitter as string } },
    { ...plain, client: { ...plain.client, tls: client.tls as NonNullable<typeof client.tls> } },
    { ...plain, originalQueueId: full.queueId },
    { ...plain, attributes: { class: 'urgent' } },
    plain,
  ];
  const wire: Wire = [];
  for (const message of some) writeMessage(wire, message);
  assert.deepEqual(readMessages(structuredClone(wire), some.length), some);
});

test('messages on disk come back equal, those of older relays without what was kept later', () => {
  for (const message of [plain, full]) assert.deepEqual(readRecord(recordOf(message)), message);
  assert.equal(recordOf(full)[REVERSE_PATH_AT], full.envelope.reversePath);
  const record = recordOf(plain);
  const submitter = 8;
  const messageId = 6;
  const attributes = 1;
  for (const missing of [submitter, messageId, attributes])
    assert.deepEqual(readRecord(record.slice(0, -missing)), plain);
});
