import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Attributes, MAIL_CLASSES } from '../../src/mail/attributes.ts';
import type { AttemptResult, Job, JobRecipient } from '../../src/mail/job.ts';
import { ResultBatch, readJobs, readResults, writeJob } from '../../src/mail/job-wire.ts';
import type { Message } from '../../src/mail/message.ts';
import type { Outcome, OutcomeGroup, PeerReply } from '../../src/mail/outcome.ts';
import type { Wire } from '../../src/mail/wire.ts';

const text = fc.string({ unit: 'binary', maxLength: 20 });
const count = fc.nat();
/** Each key that may be absent is, in half of the cases: a key that the wire forgets is found. */
const recipient: fc.Arbitrary<JobRecipient> = fc.record(
  { seq: count, address: text, notify: count, orcpt: text },
  { requiredKeys: ['seq', 'address', 'notify'] },
);
const recipients = fc.array(recipient, { maxLength: 4 });

const attributes = fc.record(
  {
    tenant: text,
    campaign: text,
    class: fc.constantFrom(...MAIL_CLASSES),
    pool: text,
    metadata: fc.constant('{"a":1}'),
    deadlineMs: fc.maxSafeNat(),
    priorityHint: fc.nat(100),
  } satisfies { [key in keyof Required<Attributes>]: fc.Arbitrary<unknown> },
  { requiredKeys: [] },
);
const job: fc.Arbitrary<Job> = fc.record(
  {
    queueId: text,
    destination: text,
    attempts: count,
    fence: fc.maxSafeNat(),
    reversePath: text,
    body: fc.constantFrom('7BIT' as const, '8BITMIME' as const, 'BINARYMIME' as const),
    smtpUtf8: fc.boolean(),
    ret: fc.constantFrom('FULL' as const, 'HDRS' as const),
    envid: text,
    submitter: text,
    messageId: text,
    user: text,
    attributes,
    trace: text,
    content: count,
    sizeBytes: fc.maxSafeNat(),
    receivedAtMs: fc.maxSafeNat(),
    delayNotified: fc.boolean(),
    leaseEpoch: count,
    suspicion: count,
    operatorText: text,
    suppressed: fc.array(fc.record({ seq: count, detail: text })),
    recipients,
  } satisfies { [key in keyof Required<Job>]: fc.Arbitrary<unknown> },
  {
    requiredKeys: [
      'queueId',
      'destination',
      'attempts',
      'fence',
      'reversePath',
      'body',
      'smtpUtf8',
      'trace',
      'content',
      'sizeBytes',
      'receivedAtMs',
      'delayNotified',
      'recipients',
    ],
  },
);

const peer = fc.record({ host: text, address: text, port: count, source: text });
const reply: fc.Arbitrary<PeerReply> = fc.record({ code: count, enhanced: text, text, peer });
const outcome: fc.Arbitrary<Outcome> = fc.oneof(
  fc.record({ kind: fc.constant('delivered' as const), reply, dsnPassedOn: fc.boolean() }),
  fc.record(
    {
      kind: fc.constant('deferred' as const),
      reason: fc.constantFrom('peer_4xx' as const, 'timeout' as const),
      reply,
      peer,
      detail: text,
      retryAtMs: fc.maxSafeNat(),
    },
    { requiredKeys: ['kind', 'reason', 'detail', 'retryAtMs'] },
  ),
  fc.record(
    {
      kind: fc.constant('bounced' as const),
      reason: fc.constantFrom('peer_5xx' as const, 'expired' as const),
      reply,
      peer,
      status: text,
      detail: text,
    },
    { requiredKeys: ['kind', 'reason', 'status', 'detail'] },
  ),
);
const group: fc.Arbitrary<OutcomeGroup> = fc.record({ seqs: fc.array(count, { maxLength: 5 }), outcome });
const dsn: Message = {
  queueId: '06dk00000000001',
  envelope: {
    reversePath: '',
    body: '7BIT',
    smtpUtf8: false,
    recipients: [{ address: 'a@x.test', domain: 'x.test', class: 'external', notify: 1 }],
  },
  trace: '',
  content: 3,
  sizeBytes: 12,
  receivedAtMs: 1,
  client: { address: '', helo: '', protocol: 'internal', sessionId: '' },
};

const result: fc.Arbitrary<AttemptResult> = fc.record(
  {
    queueId: text,
    destination: text,
    fence: fc.maxSafeNat(),
    attempts: count,
    reversePath: text,
    site: text,
    source: text,
    messageId: text,
    user: text,
    attributes,
    envid: text,
    receivedAtMs: fc.maxSafeNat(),
    sizeBytes: fc.maxSafeNat(),
    groups: fc.array(group, { maxLength: 3 }),
    recipients,
    times: fc.record({ queueMs: count, connectMs: count, transferMs: count }),
    dkimDomains: fc.array(text, { minLength: 1, maxLength: 3 }),
    tls: fc.record({ version: text, cipher: text, verified: fc.boolean() }),
    dsns: fc.constantFrom<Message[]>([], [dsn], [dsn, dsn]),
    delayNotified: fc.boolean(),
  } satisfies { [key in keyof Required<AttemptResult>]: fc.Arbitrary<unknown> },
  {
    requiredKeys: [
      'queueId',
      'destination',
      'fence',
      'attempts',
      'reversePath',
      'receivedAtMs',
      'sizeBytes',
      'groups',
      'recipients',
      'times',
      'dsns',
      'delayNotified',
    ],
  },
);

const isFlat = (wire: Wire): boolean => wire.every((value) => value === null || typeof value !== 'object');

test('jobs cross a structured clone as one flat array and come back equal', () => {
  fc.assert(
    fc.property(fc.array(job, { maxLength: 4 }), (jobs) => {
      const wire: Wire = [];
      for (const one of jobs) writeJob(wire, one);
      assert.ok(isFlat(wire));
      assert.deepEqual(readJobs(structuredClone(wire), jobs.length), plain(jobs));
    }),
  );
});

test('so do results, with the messages that tell of them', () => {
  fc.assert(
    fc.property(fc.array(result, { maxLength: 4 }), (results) => {
      const batch = new ResultBatch();
      for (const one of results) batch.add(one);
      const { wire, count: taken } = batch.take() ?? { wire: [], count: 0 };
      assert.equal(taken, results.length);
      assert.equal(batch.take(), null);
      assert.ok(isFlat(wire));
      assert.deepEqual(readResults(structuredClone(wire), taken), plain(results));
    }),
  );
});

/** What fast-check makes has no prototype. */
const plain = <T>(values: T[]): T[] => structuredClone(values);
