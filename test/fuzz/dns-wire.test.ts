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
  assert.equal(reply([3, 98, 46, 92, 0])?.answers[0]?.name, 'b\\.\\\\', 'a dot within a label');
});

test('an odd record among those that were asked for is passed over; with nothing else the reply is damaged', () => {
  const record = (type: number, data: number[]) => [
    0xc0,
    12,
    0,
    type,
    0,
    1,
    0,
    0,
    0,
    1,
    0,
    data.length,
    ...data,
  ];
  const reply = (type: number, ...records: number[][]) => {
    const head = [0, 1, 0x81, 0x80, 0, 1, 0, records.length, 0, 0, 0, 0, 1, 97, 0, 0, type, 0, 1];
    return decodeReply(Buffer.from([...head, ...records.flat()]))?.answers ?? null;
  };
  const kinds: [type: number, good: number[], odd: number[]][] = [
    [1, [192, 0, 2, 1], [192, 0, 2]],
    [15, [0, 1, 1, 98, 0], [0, 1, 1, 98]],
    [16, [1, 98], [2, 98]],
    [28, new Array(16).fill(1), [1]],
    [52, [3, 1, 1, 7], [3]],
  ];
  for (const [type, good, odd] of kinds) {
    assert.equal(reply(type, record(type, good), record(type, odd))?.length, 1, `${type}`);
    assert.equal(reply(type, record(type, odd), record(type, good))?.length, 1, `${type}`);
    assert.equal(reply(type, record(type, odd)), null, `${type} alone`);
    assert.equal(
      reply(type, record(5, [1]), record(type, good)),
      null,
      `${type} behind an alias nobody can read`,
    );
  }
  // A name that is one, and that nobody can ask for.
  assert.equal(reply(15, record(15, [0, 1, 3, 98, 46, 99, 0]), record(15, [0, 2, 1, 98, 0]))?.length, 2);
  for (const name of ['b\\.c', 'b\\\\c.test']) assert.equal(encodeQuestion(1, name, 'A'), null);
});
