import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { CommitBatch } from '../../src/database/database.ts';
import { decodeBatch, decodeResult, encodeBatch, encodeResult } from '../../src/persistence/batch-wire.ts';

const text = fc.string({ maxLength: 10 });
const seqs = fc.array(fc.nat(9), { maxLength: 4 });
const recipientArb = fc.record(
  {
    address: text,
    domain: text,
    class: fc.constantFrom('local' as const, 'external' as const),
    notify: fc.nat(15),
    orcpt: text,
  },
  { requiredKeys: ['address', 'domain', 'class', 'notify'] },
);
const message = fc.record({
  queueId: text,
  attachments: fc.array(fc.record({ name: text, type: text, sizeBytes: fc.nat(), offset: fc.nat() }), {
    minLength: 1,
    maxLength: 3,
  }),
  envelope: fc.record(
    {
      reversePath: text,
      body: fc.constantFrom('7BIT' as const, 'BINARYMIME' as const),
      smtpUtf8: fc.boolean(),
      ret: fc.constant('HDRS' as const),
      envid: text,
      submitter: text,
      recipients: fc.array(recipientArb, { maxLength: 3 }),
    },
    { requiredKeys: ['reversePath', 'body', 'smtpUtf8', 'recipients'] },
  ),
  trace: text,
  content: fc.nat(),
  sizeBytes: fc.nat(),
  receivedAtMs: fc.nat(),
  client: fc.record({ address: text, helo: text, protocol: text, sessionId: text }),
});
const plan = fc.array(
  fc.record({ destination: text, seqs, state: fc.constantFrom('SENDING' as const, 'PENDING' as const) }),
  { maxLength: 3 },
);
const batch = fc.record({
  token: text,
  messages: fc.array(
    fc.record({ message, plan, settlement: fc.nat(5) }, { requiredKeys: ['message', 'plan'] }),
    { maxLength: 3 },
  ),
  settlements: fc.array(
    fc.record({
      queueId: text,
      destination: text,
      fence: fc.nat(),
      attempts: fc.nat(),
      groups: fc.array(
        fc.record({
          seqs,
          kind: fc.constantFrom('delivered' as const, 'deferred' as const, 'bounced' as const),
          reason: text,
          detail: text,
        }),
        { maxLength: 3 },
      ),
      retryAtMs: fc.option(fc.nat()),
      delayNotified: fc.boolean(),
      suppressed: fc.array(
        fc.record({
          tenant: text,
          target: text,
          scope: text,
          reason: text,
          source: fc.constantFrom('reply' as const, 'import' as const),
          detail: text,
          createdAtMs: fc.nat(),
          expiresAtMs: fc.option(fc.nat()),
          after: fc.nat(),
          withinMs: fc.nat(),
          about: text,
        }),
        { minLength: 1, maxLength: 2 },
      ),
    }),
    { maxLength: 3 },
  ),
  withdrawals: fc.array(text, { maxLength: 3 }),
  nowMs: fc.nat(),
  leaseUntilMs: fc.nat(),
  lane: fc.nat(),
  journal: fc.option(
    fc.record({
      journal: text,
      seqs: fc.array(fc.nat()),
      mark: fc.record({ seq: fc.nat(), pending: fc.array(fc.nat()) }),
    }),
  ),
});

describe('batch wire', () => {
  it('gives back every batch as it was', () => {
    fc.assert(
      fc.property(batch, (given) => {
        // fast-check makes objects without a prototype
        const { journal, ...rest } = structuredClone(given);
        const plain = (journal === null ? rest : { ...rest, journal }) as CommitBatch;
        assert.deepEqual(decodeBatch(structuredClone(encodeBatch(plain))), plain);
      }),
    );
  });

  it('gives back every result as it was', () => {
    const result = {
      messages: ['committed', 'withdrawn', 'committed'] as ('committed' | 'withdrawn')[],
      settlements: [true, false, null],
      withdrawLater: ['a'],
    };
    const given = { messages: [1, 2, 3], settlements: [1, 2, 3] } as unknown as CommitBatch;
    assert.deepEqual(decodeResult(encodeResult(result), given), result);
  });

  it('sends nothing of a commit that did all it was given', () => {
    const result = { messages: ['committed' as const, 'committed' as const], settlements: [true] };
    const given = { messages: [1, 2], settlements: [1] } as unknown as CommitBatch;
    assert.equal(encodeResult(result), null);
    assert.deepEqual(decodeResult(null, given), result);
  });
});
