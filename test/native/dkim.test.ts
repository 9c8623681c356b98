/** DKIM signatures of the addon: judged by the twin in plain TypeScript, and by opendkim, dkimpy and mailauth. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { after, test } from 'node:test';
import fc from 'fast-check';
import {
  bodyHashesComputed,
  closeSigningKey,
  openSigningKey,
  relaxedForms,
  Signer,
  signedFields,
} from '../../src/native.ts';
import { skipWithoutVerifiers, verdictsOf } from '../services/dkim-verifiers.ts';
import { fieldsOf, partsOf, publicKeyOf, relaxedBody, relaxedField, tagsOf, verified } from './dkim-canon.ts';
import { DkimRig, makeKey } from './dkim-rig.ts';

const rig = new DkimRig();
after(() => rig.close());

const HEAD = [
  'From: Anne <anne@example.com>',
  'To: ben@example.net',
  'Subject: a word',
  'Date: Tue, 1 Dec 2026 10:00:00 +0000',
  'Message-ID: <1@example.com>',
].join('\r\n');
const TRACE = 'Received: from client (client [192.0.2.1])\r\n\tby relay; Tue, 1 Dec 2026 10:00:00 +0000\r\n';

const LINE = '0123456789 abcdefghijklmnopqrstuvwxyz  ABCDEFGHIJKLMNOP \r\n';

const CASES: Record<string, Buffer> = {
  plain: Buffer.from(`${HEAD}\r\n\r\nHello.\r\n`),
  'folded and spaced fields': Buffer.from(
    `From:   Anne\r\n\t <anne@example.com>  \r\nTo:ben@example.net,\r\n   cee@example.net\r\nSubject: \t a \t b\r\n  c\t\r\nDate: Tue, 1 Dec 2026 10:00:00 +0000\r\n\r\nHello.\r\n`,
  ),
  'doubled fields': Buffer.from(`${HEAD}\r\nReferences: <a@x>\r\nReferences: <b@x>\r\n\r\nHello.\r\n`),
  'empty fields': Buffer.from(`${HEAD}\r\nReply-To:\r\nCc: \r\nReferences:\t\r\n\r\nHello.\r\n`),
  '8-bit': Buffer.from(`${HEAD}\r\nSender: Jürgen <anne@example.com>\r\n\r\nGrüße — ünd mehr.\r\n`),
  'names in other cases': Buffer.from(
    `${HEAD.replace('From', 'FROM').replace('Subject', 'sUBJECT')}\r\n\r\nx\r\n`,
  ),
  'empty body': Buffer.from(`${HEAD}\r\n\r\n`),
  'empty lines at the end': Buffer.from(`${HEAD}\r\n\r\nHello.\r\n\r\n\r\n \r\n\t\r\n`),
  'empty lines only': Buffer.from(`${HEAD}\r\n\r\n\r\n\r\n\r\n`),
  'spaces at line ends': Buffer.from(`${HEAD}\r\n\r\nHello \t \r\n  a   b\tc \r\n \r\nend.  \r\n`),
  'dots at line starts': Buffer.from(`${HEAD}\r\n\r\n.\r\n..\r\n.x\r\n`),
  '100 KB': Buffer.from(`${HEAD}\r\n\r\n${LINE.repeat(1_800)}`),
};

test('opendkim, dkimpy and mailauth verify every shape of message, RSA and Ed25519', {
  skip: skipWithoutVerifiers(),
}, async () => {
  const names: string[] = [];
  const messages: Buffer[] = [];
  for (const [name, content] of Object.entries(CASES)) {
    names.push(name);
    messages.push(await rig.signed(content, TRACE));
  }
  names.push('1 MB in a file');
  messages.push(await rig.signed(Buffer.from(`${HEAD}\r\n\r\n${LINE.repeat(18_000)}`), TRACE, true));
  const bad = await rig.signed(CASES.plain as Buffer);
  names.push('changed');
  messages.push(Buffer.from(bad.toString('latin1').replace('Hello', 'Hallo'), 'latin1'));
  const verdicts = await verdictsOf(messages, rig.records);
  for (const [verifier, all] of Object.entries(verdicts))
    for (const [i, name] of names.entries()) {
      if (name === 'changed') assert.ok(!all[i]?.includes('pass'), `${verifier}: ${all[i]}`);
      else assert.deepEqual(all[i], ['pass', 'pass'], `${verifier}: ${name}`);
    }
});

test('no final CRLF, white space before the colon, lines that are no field: the twin verifies', async () => {
  const contents = [
    `${HEAD}\r\n\r\nno end`,
    `${HEAD}\r\n\r\nspaces  `,
    HEAD,
    `${HEAD}\r\n`,
    `From : anne@example.com\r\nSubject\t: x\r\nno field\r\n goes on\r\n: nameless\r\nTo: ben@example.net\r\n\r\nx\r\n`,
    `\tcontinues the trace\r\n${HEAD}\r\n\r\nx\r\n`,
    '',
    '\r\nonly a body',
    `${HEAD}\r\n\r\nbare \r and \n within\r\n\r`,
  ];
  for (const content of contents)
    for (const spilled of [false, true]) {
      if (spilled && content === '') continue;
      const message = await rig.signed(Buffer.from(content), TRACE, spilled);
      assert.deepEqual(verified(message, keyOf), [true, true], JSON.stringify(content));
    }
});

const keyOf = (tags: Map<string, string>) =>
  publicKeyOf(rig.records[`${tags.get('s')}._domainkey.${tags.get('d')}`] as string);

test('a field that is added to an oversigned one breaks the signature; to another one it does not', async () => {
  const message = (await rig.signed(CASES.plain as Buffer)).toString('latin1');
  const signature = fieldsOf(partsOf(message).header)[0];
  assert.ok(signature);
  assert.equal(
    tagsOf(signature)
      .get('h')
      ?.split(':')
      .filter((name) => name === 'From').length,
    2,
  );
  assert.equal(tagsOf(signature).has('l'), false);
  assert.equal(tagsOf(signature).has('x'), false);
  for (const [field, stays] of [
    ['From: eve@example.org\r\n', false],
    ['Cc: eve@example.org\r\n', false],
    ['Content-Type: text/html\r\n', false],
    ['Received: by elsewhere\r\n', true],
  ] as const)
    assert.deepEqual(verified(Buffer.from(field + message, 'latin1'), keyOf), [stays, stays], field);
});

test('times stand in t= and x=; lines are short', async () => {
  const handle = rig.arena.store(CASES.plain as Buffer);
  const text = await rig.sign(handle, { signedAt: 1_000, expiresAt: 1_600 });
  rig.arena.release(handle);
  const tags = tagsOf(fieldsOf(text)[0] as { name: string; text: string });
  assert.deepEqual([tags.get('t'), tags.get('x')], ['1000', '1600']);
  assert.ok(
    text.split('\r\n').every((line) => line.length <= 78),
    text,
  );
});

test('a body is hashed once for a content, and anew for the next content in its place', async () => {
  const before = bodyHashesComputed();
  const first = rig.arena.store(CASES.plain as Buffer);
  const all = await Promise.all(
    Array.from({ length: 20 }, () => rig.sign(first, { slots: [rig.slots[1] as number] })),
  );
  assert.equal(bodyHashesComputed() - before, 1);
  rig.arena.release(first);
  const second = rig.arena.store(Buffer.from(`${HEAD}\r\n\r\nAnother.\r\n`));
  assert.equal(second, first);
  const other = await rig.sign(second, { slots: [rig.slots[1] as number] });
  rig.arena.release(second);
  const hash = (text: string) => tagsOf(fieldsOf(text)[0] as { name: string; text: string }).get('bh');
  assert.equal(new Set(all.map(hash)).size, 1);
  assert.notEqual(hash(other), hash(all[0] as string));
});

test('a header section of 2 MiB, a file that ends early and a closed key are told; nothing is held afterwards', async () => {
  const long = rig.arena.store(Buffer.from(`${'X: y\r\n'.repeat(400_000)}\r\nbody`));
  await assert.rejects(rig.sign(long), /header section is longer than 1 MiB/);
  rig.arena.release(long);
  const short = rig.spilled(Buffer.from('From: anne@example.com\r\n\r\nbody'));
  const cut = rig.arena.storeFile(openSync('/dev/null', 'r'), 0, 500);
  await assert.rejects(rig.sign(cut), /cannot be read/);
  rig.arena.release(cut);
  await assert.rejects(rig.sign(short, { slots: [4_000_000] }), /closed/);
  rig.arena.release(short);
});

test('what is no RSA or Ed25519 key is refused', () => {
  for (const pem of ['', 'nonsense', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'])
    assert.equal(openSigningKey(pem, 'example.com', 's'), null);
});

test('a signer that closes drops what waits, and leaves no reference behind', async () => {
  const { pem } = makeKey('rsa');
  const slot = openSigningKey(pem, 'example.com', 's') as number;
  const free = rig.arena.freeBytes();
  for (let round = 0; round < 20; round++) {
    const signer = new Signer(rig.arena, () => {});
    const content = rig.arena.store(CASES.plain as Buffer);
    const fields = signedFields(['From'], []);
    for (let ticket = 0; ticket < 20; ticket++) {
      signer.add({ ticket, content, before: '', slots: [slot], fields, signedAt: 1, expiresAt: 0 });
      if (ticket === 15) signer.flush();
    }
    rig.arena.release(content);
    signer.close();
    signer.flush();
    assert.equal(rig.arena.freeBytes(), free);
  }
  closeSigningKey(slot);
});

const piece = fc.constantFrom(
  '\r\n',
  '\r',
  '\n',
  ' ',
  '\t',
  ':',
  'a',
  'From',
  '.',
  '\xff',
  '  ',
  '\r\n\r\n',
  'x y',
);
const text = fc.array(piece, { maxLength: 60 }).map((pieces) => pieces.join(''));

test('the relaxed forms are those of the twin, at any split', () => {
  fc.assert(
    fc.property(text, fc.integer({ min: 1, max: 9 }), (message, pieceBytes) => {
      const { header, body } = relaxedForms(Buffer.from(message, 'latin1'), pieceBytes);
      const parts = partsOf(message);
      const fields = fieldsOf(parts.header).map((field) => `${relaxedField(field)}\r\n`);
      assert.equal(header.toString('latin1'), fields.join(''));
      assert.equal(body.toString('latin1'), relaxedBody(parts.body));
    }),
    { numRuns: 3000 },
  );
});
