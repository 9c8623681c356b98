import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AttemptResult } from '../../src/mail/job.ts';
import type { Message } from '../../src/mail/message.ts';
import { jobOf, planMessage } from '../../src/persistence/plan.ts';
import { toSettlement } from '../../src/persistence/to-settlement.ts';

function message(...recipients: string[]): Message {
  return {
    queueId: '000000000000001',
    envelope: {
      reversePath: 'a@from.test',
      body: '8BITMIME',
      smtpUtf8: false,
      ret: 'HDRS',
      recipients: recipients.map((address) => ({
        address,
        domain: address.slice(address.indexOf('@') + 1),
        class: 'external',
        notify: 4,
        orcpt: `rfc822;${address}`,
      })),
    },
    trace: 'Received: by us\r\n',
    content: 7,
    sizeBytes: 100,
    receivedAtMs: 1000,
    client: { address: '127.0.0.1', helo: 'c', protocol: 'ESMTP', sessionId: 's' },
  };
}

test('a message becomes one row for each destination, in order of its recipients', () => {
  const entry = { message: message('a@x.test', 'b@y.test', 'c@x.test'), plan: [] };
  planMessage(entry, { smarthost: false, routed: new Set() }, { reserve: (d) => d === 'x.test' });
  assert.deepEqual(entry.plan, [
    { destination: 'x.test', seqs: [0, 2], state: 'SENDING' },
    { destination: 'y.test', seqs: [1], state: 'PENDING' },
  ]);
});

test('with a smarthost only routed domains have rows of their own', () => {
  const entry = { message: message('a@x.test', 'b@y.test', 'c@slow.test'), plan: [] };
  planMessage(entry, { smarthost: true, routed: new Set(['slow.test']) }, { reserve: () => true });
  assert.deepEqual(
    entry.plan.map((row: { destination: string; seqs: number[] }) => [row.destination, row.seqs]),
    [
      ['smarthost', [0, 1]],
      ['slow.test', [2]],
    ],
  );
});

test('a job carries its row’s recipients with their DSN parameters and the envelope', () => {
  const job = jobOf(message('a@x.test', 'b@y.test'), { destination: 'y.test', seqs: [1], state: 'SENDING' });
  assert.deepEqual(job.recipients, [{ seq: 1, address: 'b@y.test', notify: 4, orcpt: 'rfc822;b@y.test' }]);
  assert.equal(job.ret, 'HDRS');
  assert.equal('envid' in job, false);
  assert.equal('submitter' in job, false);
  assert.equal(job.body, '8BITMIME');
  assert.equal(job.attempts, 0);
});

const result = (groups: AttemptResult['groups']): AttemptResult => ({
  queueId: 'q',
  destination: 'x.test',
  fence: 3,
  attempts: 2,
  reversePath: 'a@from.test',
  receivedAtMs: 0,
  sizeBytes: 1,
  groups,
  recipients: [],
  times: { queueMs: 0, connectMs: 0, transferMs: 0 },
  dsns: [],
  delayNotified: true,
});

test('a settlement is due again when its earliest deferral is', () => {
  const deferred = (retryAtMs: number) =>
    ({ kind: 'deferred', reason: 'timeout', detail: 'no reply', retryAtMs }) as const;
  const settlement = toSettlement(
    result([
      { seqs: [0], outcome: deferred(9000) },
      { seqs: [1], outcome: deferred(5000) },
    ]),
  );
  assert.equal(settlement.retryAtMs, 5000);
  assert.equal(settlement.fence, 3);
  assert.equal(settlement.delayNotified, true);
});

test('a settlement without deferrals is not due again and keeps the peer’s words', () => {
  const reply = {
    code: 550,
    enhanced: '5.1.1',
    text: 'no such user',
    peer: { host: 'mx.x.test', address: '192.0.2.1', port: 25, source: '' },
  };
  const settlement = toSettlement(
    result([
      {
        seqs: [0],
        outcome: { kind: 'delivered', reply: { ...reply, code: 250, enhanced: '' }, dsnPassedOn: false },
      },
      { seqs: [1, 2], outcome: { kind: 'bounced', reason: 'peer_5xx', status: '5.1.1', detail: '', reply } },
    ]),
  );
  assert.equal(settlement.retryAtMs, null);
  assert.deepEqual(settlement.groups, [
    { seqs: [0], kind: 'delivered', reason: '', detail: '250 no such user (mx.x.test [192.0.2.1])' },
    {
      seqs: [1, 2],
      kind: 'bounced',
      reason: 'peer_5xx',
      detail: '550 5.1.1 no such user (mx.x.test [192.0.2.1])',
    },
  ]);
});
