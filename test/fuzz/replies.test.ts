/** Any peer: whatever lines it sends, in whatever order, each recipient meets exactly one fate and nothing hangs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { configSchema } from '../../src/config/schema.ts';
import { Attempt } from '../../src/delivery/attempt.ts';
import type { ClientPort, SessionOwner } from '../../src/delivery/client/owner.ts';
import { ClientSession } from '../../src/delivery/client/session.ts';
import { RememberedHosts } from '../../src/delivery/remembered-hosts.ts';
import { tlsPolicyOf } from '../../src/delivery/security/tls-policy.ts';
import type { PeerReply } from '../../src/mail/outcome.ts';
import { CLASSES, MOVES, type Verdict } from '../../src/mail/verdict.ts';
import type { Arena } from '../../src/native.ts';
import { plainCode, ReplyParser } from '../../src/protocol/reply-parser.ts';

const rules = configSchema.parse({ delivery: { max_recipients_per_transaction: 3 } }).delivery;

const code = fc.constantFrom(
  200,
  220,
  221,
  250,
  250,
  250,
  251,
  354,
  354,
  421,
  450,
  451,
  452,
  503,
  550,
  552,
  554,
);
const line = fc.oneof(
  { weight: 12, arbitrary: code.map((n) => `${n} ok`) },
  { weight: 2, arbitrary: code.map((n) => `${n}-more`) },
  { weight: 2, arbitrary: code.map((n) => `${n}`) },
  { weight: 1, arbitrary: code.map((n) => `${n} ${Math.floor(n / 100)}.5.3 too many`) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 30 }) },
);
const event = fc.oneof(
  {
    weight: 20,
    arbitrary: fc
      .tuple(line, fc.nat(9))
      .map(([text, n]) => ({ kind: 'line' as const, text, together: n === 0 })),
  },
  { weight: 4, arbitrary: fc.constant({ kind: 'sent' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'timeout' as const }) },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 0, max: 3 }).map((reason) => ({ kind: 'closed' as const, reason })),
  },
);
const offers = fc.subarray([
  'PIPELINING',
  'SIZE 100',
  '8BITMIME',
  'SMTPUTF8',
  'DSN',
  'CHUNKING',
  'BINARYMIME',
]);

/** Rules by which any reply may have any meaning, always the same one. */
const classifying =
  (seed: number) =>
  ({ code: given, text }: PeerReply): Verdict => {
    const number = seed + 7 * given + text.length;
    return {
      class: CLASSES[number % CLASSES.length] ?? 'unknown',
      scope: 'source',
      move: MOVES[number % MOVES.length] ?? 'bounce',
      rule: null,
    };
  };

test('after any replies, whatever they mean, each recipient has exactly one fate, or its attempt is back', () => {
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.boolean(),
      offers,
      fc.array(event, { maxLength: 60 }),
      fc.nat(1000),
      (greets, others, capabilities, events, seed) => {
        const ready: Attempt[] = [];
        const finished = new Set<Attempt>();
        const begun = new Set<Attempt>();
        let over = 0;
        let delivering = 0;
        const port: ClientPort = {
          sendLatin1() {},
          sendUtf8() {},
          sendContent: () => void delivering++,
          expectLines() {},
          deadline() {},
          secure() {},
          close() {},
        };
        const next = () => {
          const attempt = ready.shift() ?? null;
          if (attempt !== null) begun.add(attempt);
          return attempt;
        };
        let turn = 0;
        const owner: SessionOwner = {
          careful: new RememberedHosts(),
          returnPaths: null,
          classify: classifying(seed),
          slowDown: () => {},
          hasOthers: () => others,
          works: () => {},
          keepApart: () => {},
          get turn() {
            return turn;
          },
          arena: { parts: () => [], file: () => null, head: () => Buffer.alloc(0) } as unknown as Arena,
          rules,
          ehloName: 'relay.test',
          tls: {
            policy: tlsPolicyOf(rules, 'x.test'),
            broken: new RememberedHosts(),
            slot: 0,
            record: () => {},
          },
          recipientLimit: Number.POSITIVE_INFINITY,
          messageLimit: 1000,
          idleMs: 5000,
          outside: (work) => work(),
          guard: (session, _at, work) => work(session),
          now: () => 1000,
          leaseHolds: () => true,
          next,
          lookAhead: next,
          finished: (attempt) => {
            assert.equal(finished.has(attempt), false, 'finished twice');
            assert.equal(attempt.over, true);
            attempt.settle((outcome) => outcome);
            assert.equal(attempt.done, true);
            begun.delete(attempt);
            finished.add(attempt);
          },
          returned: (attempt) => {
            assert.equal(attempt.hasMore, true, 'given back with nothing to do');
            begun.delete(attempt);
            ready.unshift(attempt);
          },
          established: (session) => session.work(),
          notEstablished: () => void over++,
          idle() {},
          ended: () => void over++,
        };
        for (let i = 0; i < 6; i++) {
          const body = i % 3 === 0 ? '7BIT' : i % 3 === 1 ? '8BITMIME' : 'BINARYMIME';
          ready.push(
            new Attempt({
              queueId: `00000000000000${i}`,
              destination: 'x.test',
              attempts: 0,
              fence: 1,
              reversePath: 's@x.test',
              body,
              smtpUtf8: i === 4,
              trace: '',
              content: i,
              sizeBytes: 10,
              receivedAtMs: 0,
              delayNotified: false,
              recipients: Array.from({ length: 1 + ((i * 3) % 8) }, (_, seq) => ({
                seq,
                address: `u${seq}@x`,
                notify: 0,
              })),
            }),
          );
        }
        const session = new ClientSession(0, { name: 'm', address: '192.0.2.1', port: 25 }, port, owner);
        const say = (text: string, together = false) => {
          if (!together) turn++;
          const bytes = Buffer.from(text);
          session.line(bytes, 0, bytes.length, 0);
        };
        session.opened('192.0.2.8');
        if (greets) {
          say('220 hello');
          for (const [i, text] of ['m', ...capabilities].entries())
            say(`250${i === capabilities.length ? ' ' : '-'}${text}`);
        }
        let gone = false;
        for (const one of events) {
          if (gone) break;
          if (one.kind === 'line') say(one.text, one.together);
          else if (one.kind === 'sent') session.sent();
          else if (one.kind === 'timeout') session.timedOut();
          else {
            gone = true;
            session.closed(one.reason, 0);
          }
        }
        if (!gone) session.closed(0, 104);
        assert.equal(over, 1, 'the owner is told once that it is over');
        assert.equal(begun.size, 0, 'an attempt hangs');
        for (const attempt of finished) {
          const seqs = attempt.groups.flatMap((group) => group.seqs).sort((a, b) => a - b);
          assert.deepEqual(
            seqs,
            attempt.job.recipients.map(({ seq }) => seq),
          );
        }
        // I3: delivered only what was sent.
        const kinds = [...finished, ...ready].flatMap((one) => one.groups.map(({ outcome }) => outcome.kind));
        assert.equal(kinds.filter((kind) => kind === 'delivered').length <= delivering, true);
      },
    ),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 3000) },
  );
});

const replyLike = fc
  .tuple(
    fc.oneof(
      code.map(String),
      fc.string({ unit: 'binary', maxLength: 4 }),
      fc.stringMatching(/^[0-9:/]{1,4}$/),
    ),
    fc.constantFrom('', ' ', '-', '\t', 'x', ' ok', '- ok', '0'),
    fc.string({ unit: 'binary', maxLength: 10 }),
  )
  .map((parts) => parts.join(''));

test('codes that are read from the octets alone are those the parser reads', () => {
  fc.assert(
    fc.property(replyLike, (text) => {
      const bytes = Buffer.from(`..${text}..`);
      const length = bytes.length - 4;
      const plain = plainCode(bytes, 2, length);
      if (plain !== 250 && plain !== 354) return;
      const read = new ReplyParser().push(bytes.toString('utf8', 2, 2 + length));
      assert.equal(typeof read === 'object' && read?.code, plain);
    }),
    {
      examples: ['24:', '15 ', '1_0', '34>', '/[0'].map((text) => [text]),
      numRuns: Number(process.env.FUZZ_RUNS ?? 3000),
    },
  );
});
