/** Replies of DNS from anybody: what dns-packet writes is read the same, damaged ones end, and bring nothing odd. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Answer, decode, encode } from 'dns-packet';
import fc from 'fast-check';
import { decodeReply, encodeQuestion } from '../../src/dns/wire.ts';

const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/);
const name = fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join('.'));
const ttl = fc.nat({ max: 0x7fff_ffff });
const octets = (minLength: number, maxLength: number) =>
  fc.uint8Array({ minLength, maxLength }).map((bytes) => Buffer.from(bytes));
const answer: fc.Arbitrary<Answer> = fc.oneof(
  fc.record({ type: fc.constant('A'), name, ttl, data: fc.ipV4() }),
  fc.record({ type: fc.constant('CNAME'), name, ttl, data: name }),
  fc.record({ type: fc.constant('PTR'), name, ttl, data: name }),
  fc.record({
    type: fc.constant('TXT'),
    name,
    ttl,
    data: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
  }),
  fc.record({ type: fc.constant('NS'), name, ttl, data: name }),
  fc.record({
    type: fc.constant('MX'),
    name,
    ttl,
    data: fc.record({ preference: fc.nat({ max: 65_535 }), exchange: name }),
  }),
  fc.record({
    type: fc.constant('TLSA'),
    name,
    ttl,
    data: fc.record({
      usage: fc.nat({ max: 255 }),
      selector: fc.nat({ max: 255 }),
      matchingType: fc.nat({ max: 255 }),
      certificate: octets(0, 80),
    }),
  }),
);
const packet = fc.record({
  id: fc.nat({ max: 65_535 }),
  asked: name,
  answers: fc.array(answer, { maxLength: 8 }),
  ad: fc.boolean(),
});
const written = ({ id, asked, answers, ad }: { id: number; asked: string; answers: Answer[]; ad: boolean }) =>
  encode({
    type: 'response',
    id,
    flags: ad ? 0x81a0 : 0x8180,
    questions: [{ type: 'TLSA', name: asked }],
    answers,
  });

test('what another encoder writes is read as it was meant', () => {
  fc.assert(
    fc.property(packet, (one) => {
      const reply = decodeReply(written(one));
      assert.ok(reply !== null);
      assert.deepEqual([reply.id, reply.authentic, reply.code], [one.id, one.ad, 0]);
      assert.deepEqual(reply.question, { name: one.asked, type: 52 });
      const meant = one.answers
        .filter(({ type }) => type !== 'NS')
        .map(({ type, name, ttl, data }) => {
          const base = { name, ttl, type };
          if (type === 'MX') {
            const { preference, exchange } = data as { preference: number; exchange: string };
            return { ...base, preference, value: exchange };
          }
          if (type !== 'TLSA') return { ...base, value: data };
          const { usage, selector, matchingType, certificate } = data as Record<string, number> & {
            certificate: Buffer;
          };
          return {
            ...base,
            tlsa: { usage, selector, matching: matchingType, hex: certificate.toString('hex') },
          };
        });
      assert.deepEqual(reply.answers, meant);
    }),
    { numRuns: 500 },
  );
});

test('questions are read by another decoder as they were meant', () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 65_535 }),
      name,
      fc.constantFrom('A', 'AAAA', 'MX', 'TLSA', 'TXT', 'PTR'),
      (id, asked, type) => {
        const bytes = encodeQuestion(id, asked, type as 'A');
        assert.ok(bytes !== null);
        const query = decode(bytes);
        assert.equal(query.id, id);
        assert.deepEqual([query.questions[0]?.name, query.questions[0]?.type], [asked, type]);
        assert.equal((query.flags ?? 0) & 0x0120, 0x0120, 'RD and AD');
      },
    ),
  );
});

test('damaged replies are read or refused, never thrown at, and names stay within bounds', () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(packet, damage, fc.nat({ max: 40 }), (one, changes, cut) => {
      const bytes = Buffer.from(written(one));
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      const reply = decodeReply(bytes.subarray(0, Math.max(0, bytes.length - cut)));
      for (const { name } of reply?.answers ?? []) assert.ok(name.length <= 255);
    }),
    { numRuns: 5000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => void decodeReply(bytes)),
    { numRuns: 5000 },
  );
});

test('pointers that go round, forwards or on for ever end', () => {
  const head = Buffer.from([0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, 97, 0, 0, 52, 0, 1]);
  const rest = Buffer.from([0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4]);
  const reply = (name: number[]) => decodeReply(Buffer.concat([head, Buffer.from(name), rest]));
  assert.equal(reply([0xc0, 12])?.answers[0]?.name, 'a');
  assert.equal(reply([0xc0, 19]), null, 'to itself');
  assert.equal(reply([0xc0, 25]), null, 'forwards');
  assert.equal(reply([1, 98, 0xc0, 19]), null, 'round');
  assert.equal(reply([0x80, 12]), null, 'no kind of label');
  assert.equal(reply([1, 46, 0]), null, 'a dot within a label');
});
