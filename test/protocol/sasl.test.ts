/** SASL messages against the examples of their RFCs, and against random octets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeBase64, utf8Text } from '../../src/protocol/sasl/base64.ts';
import {
  cramChallenge,
  cramDigest,
  isCramDigest,
  parseCramResponse,
} from '../../src/protocol/sasl/cram-md5.ts';
import { parseLoginField, parsePlain, plainMessage, xoauth2Message } from '../../src/protocol/sasl/plain.ts';
import { saslPrepare } from '../../src/protocol/sasl/prepare.ts';
import {
  authMessage,
  isBoundTo,
  parseClientFinal,
  parseClientFirst,
  proveClient,
  ScramClient,
  scramKeys,
  serverFirst,
} from '../../src/protocol/sasl/scram.ts';

test('Base64 is decoded strictly', () => {
  for (const good of ['', 'Zg==', 'Zm8=', 'Zm9v', 'AAAA////']) assert.ok(decodeBase64(good), good);
  for (const bad of ['=', 'Zg', 'Zg=', 'Z', 'Zm9v=', 'Zm 9v', 'Zm9v\n', 'Zm-_', '====', 'Zg==Zg=='])
    assert.equal(decodeBase64(bad), null, bad);
});

test('RFC 4013 §3: the examples of SASLprep', () => {
  assert.equal(saslPrepare('I\u00adX'), 'IX');
  assert.equal(saslPrepare('user'), 'user');
  assert.equal(saslPrepare('USER'), 'USER');
  assert.equal(saslPrepare('\u00aa'), 'a');
  assert.equal(saslPrepare('\u2168'), 'IX');
  assert.equal(saslPrepare('\u0007'), null);
  assert.equal(saslPrepare('\u06271'), null);
});

test('SASLprep: other spaces are spaces, right-to-left stands alone, what no one types is refused', () => {
  assert.equal(saslPrepare('a\u00a0b\u3000c'), 'a b c');
  assert.equal(saslPrepare('שלום'), 'שלום');
  assert.equal(saslPrepare('שaם'), null);
  for (const bad of ['a\u200eb', '\ue000', '\ufffd', 'a\u{e0041}', 'é\x7f'])
    assert.equal(saslPrepare(bad), null);
});

test('PLAIN: RFC 4616 §4', () => {
  assert.deepEqual(parsePlain(Buffer.from('\0tim\0tanstaaftanstaaf')), {
    authorize: '',
    username: 'tim',
    password: 'tanstaaftanstaaf',
  });
  assert.deepEqual(parsePlain(Buffer.from('Ursel\0Kurt\0xipj3plmq')), {
    authorize: 'Ursel',
    username: 'Kurt',
    password: 'xipj3plmq',
  });
  for (const bad of ['', 'a', '\0a', '\0\0', '\0a\0', '\0\0b', '\0a\0b\0c', '\0a\x01\0b'])
    assert.equal(parsePlain(Buffer.from(bad)), null, JSON.stringify(bad));
  assert.equal(parsePlain(Buffer.from([0, 0xff, 0, 0x61])), null, 'not UTF-8');
  assert.deepEqual(parsePlain(plainMessage('ü', 'p w')), { authorize: '', username: 'ü', password: 'p w' });
});

test('LOGIN fields', () => {
  assert.equal(parseLoginField(Buffer.from('tim')), 'tim');
  for (const bad of ['', 'a\0b', 'a\nb']) assert.equal(parseLoginField(Buffer.from(bad)), null);
});

test('XOAUTH2: the example of its description', () => {
  assert.equal(
    xoauth2Message('someuser@example.com', 'ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg').toString(
      'base64',
    ),
    'dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ==',
  );
});

test('CRAM-MD5: RFC 2195 §2', () => {
  const challenge = '<1896.697170952@postoffice.reston.mci.net>';
  const response = parseCramResponse(Buffer.from('tim b913a602c7eda7a495b4e6e7334d3890'));
  assert.equal(response?.username, 'tim');
  assert.ok(isCramDigest(challenge, 'tanstaaftanstaaf', response?.digest as Buffer));
  assert.ok(!isCramDigest(challenge, 'tanstaaftanstaag', response?.digest as Buffer));
  assert.equal(cramDigest(challenge, 'tanstaaftanstaaf').toString('hex'), 'b913a602c7eda7a495b4e6e7334d3890');
  assert.equal(cramChallenge('u', 1_700_000_000_999, 'relay.test'), '<u.1700000000@relay.test>');
  for (const bad of [
    '',
    'tim',
    'tim b913',
    ' b913a602c7eda7a495b4e6e7334d3890',
    'b913a602c7eda7a495b4e6e7334d3890',
  ])
    assert.equal(parseCramResponse(Buffer.from(bad)), null, bad);
  assert.equal(parseCramResponse(Buffer.from('a b b913a602c7eda7a495b4e6e7334d3890'))?.username, 'a b');
});

/** RFC 7677 §3. */
const RFC7677 = {
  first: 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO',
  serverFirst: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
  final:
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
  serverFinal: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
};

test('SCRAM-SHA-256 as server: RFC 7677 §3', () => {
  const first = parseClientFirst(Buffer.from(RFC7677.first));
  assert.ok(first);
  assert.deepEqual(
    { username: first.username, nonce: first.nonce, binding: first.binding, gs2Header: first.gs2Header },
    { username: 'user', nonce: 'rOprNGfwEbeRWgbNEkqO', binding: 'n', gs2Header: 'n,,' },
  );
  const keys = scramKeys('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'), 4096);
  const nonce = 'rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
  assert.equal(serverFirst(nonce, keys), RFC7677.serverFirst);
  const final = parseClientFinal(Buffer.from(RFC7677.final));
  assert.ok(final);
  assert.equal(final.nonce, nonce);
  assert.ok(isBoundTo(final, 'n,,', null));
  assert.ok(!isBoundTo(final, 'y,,', null));
  assert.ok(!isBoundTo(final, 'n,,', { type: 'tls-exporter', octets: Buffer.from('x') }));
  const message = authMessage(first.bare, RFC7677.serverFirst, final.withoutProof);
  assert.equal(`v=${proveClient(keys, message, final.proof)?.toString('base64')}`, RFC7677.serverFinal);
  final.proof[0] = (final.proof[0] as number) ^ 1;
  assert.equal(proveClient(keys, message, final.proof), null);
});

test('SCRAM-SHA-256 as client: RFC 7677 §3', async () => {
  const client = new ScramClient('user', 'pencil', 'rOprNGfwEbeRWgbNEkqO');
  assert.equal(client.first, RFC7677.first);
  assert.equal(client.isServer(RFC7677.serverFinal), false, 'nothing is proven before the exchange');
  assert.equal(await client.final(RFC7677.serverFirst), RFC7677.final);
  assert.equal(client.isServer(RFC7677.serverFinal), true);
  assert.equal(client.isServer('v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4='), false);
  assert.equal(client.isServer('e=invalid-proof'), false);
});

test('SCRAM as client refuses a server that does not play by the rules', async () => {
  const client = new ScramClient('user', 'pencil', 'abc');
  for (const bad of [
    'r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096', // added nothing to the nonce
    'r=xyzabc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096', // another nonce
    'r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1', // too little work to protect the password
    'r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=9999999', // too much work
    'r=abcdef,s=?,i=4096',
    'm=x,r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    'e=other-error',
    '',
  ])
    assert.equal(await client.final(bad), null, bad);
});

test('SCRAM: names are written with =2C and =3D, bindings are part of what is signed', () => {
  assert.equal(new ScramClient('a,b=c', 'p', 'n').first, 'n,,n=a=2Cb=3Dc,r=n');
  assert.equal(parseClientFirst(Buffer.from('n,,n=a=2Cb=3Dc,r=n'))?.username, 'a,b=c');
  const bound = new ScramClient('u', 'p', 'n', { type: 'tls-exporter', octets: Buffer.from('x') });
  assert.equal(bound.first, 'p=tls-exporter,,n=u,r=n');
  const first = parseClientFirst(Buffer.from('p=tls-exporter,a=boss,n=u,r=n'));
  assert.deepEqual(
    [first?.binding, first?.authorize, first?.gs2Header],
    ['tls-exporter', 'boss', 'p=tls-exporter,a=boss,'],
  );
});

test('malformed SCRAM messages are told from good ones', () => {
  for (const bad of [
    '', 'n', 'n,', 'n,,', 'n,,n=u', 'n,,r=n', 'n,,n=,r=n', 'n,,n=u,r=', 'x,,n=u,r=n', 'n,,n=u=,r=n', 'n,,n=u=2c,r=n',
    'n,,m=x,n=u,r=n', 'p=,,n=u,r=n', 'n,a=b=,n=u,r=n', `n,,n=u,r=${'n'.repeat(513)}`, 'n,,n=u,r=a\x7f', 'n,,n=\0,r=n',
  ]) // biome-ignore format: a table
    assert.equal(parseClientFirst(Buffer.from(bad)), null, bad);
  const proof = Buffer.alloc(32).toString('base64');
  assert.ok(parseClientFinal(Buffer.from(`c=biws,r=n,p=${proof}`)));
  for (const bad of [
    '',
    'c=biws,r=n',
    `c=?,r=n,p=${proof}`,
    `r=n,p=${proof}`,
    'c=biws,r=n,p=AAAA',
    `c=biws,p=${proof}`,
  ])
    assert.equal(parseClientFinal(Buffer.from(bad)), null, bad);
});

const octets = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
/** Text of the letters that these grammars are made of. */
const near = fc
  .array(
    fc.constantFrom(
      'n',
      ',',
      'p=',
      'c=',
      'r=',
      's=',
      'i=',
      '=2C',
      '=3D',
      '=',
      '\0',
      'a',
      'é',
      ' ',
      '0',
      'AAAA',
      'biws',
    ),
    {
      maxLength: 40,
    },
  )
  .map((parts) => Buffer.from(parts.join('')));

test('fuzz: no parser throws, whatever it is given; what it takes is bounded by what came', () => {
  fc.assert(
    fc.property(fc.oneof(octets, near), (input) => {
      const plain = parsePlain(input);
      if (plain !== null)
        assert.ok(plain.username !== '' && plain.password !== '' && !/\0/.test(plain.password));
      parseLoginField(input);
      const cram = parseCramResponse(input);
      if (cram !== null) assert.equal(cram.digest.length, 16);
      const first = parseClientFirst(input);
      if (first !== null) assert.equal(first.gs2Header + first.bare, utf8Text(input));
      const final = parseClientFinal(input);
      if (final !== null) assert.equal(final.proof.length, 32);
      decodeBase64(input.toString('latin1'));
    }),
    { numRuns: 3000 },
  );
});

test('fuzz: a client’s messages are read as they were meant, and SCRAM proves the right password and no other', async () => {
  const word = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
    .filter((text) => !!saslPrepare(text));
  await fc.assert(
    fc.asyncProperty(word, word, word, async (username, password, other) => {
      const prepared = { username: saslPrepare(username), password: saslPrepare(password) };
      assert.deepEqual(parsePlain(plainMessage(username, password)), { authorize: '', ...prepared });
      const client = new ScramClient(username, password, 'abcdef');
      const first = parseClientFirst(Buffer.from(client.first));
      assert.equal(first?.username, prepared.username);
      for (const tried of [password, other]) {
        const keys = scramKeys(saslPrepare(tried) as string, Buffer.from('salty'), 4096);
        const said = serverFirst('abcdefgh', keys);
        const final = parseClientFinal(Buffer.from((await client.final(said)) as string));
        assert.ok(first && final);
        const signature = proveClient(keys, authMessage(first.bare, said, final.withoutProof), final.proof);
        assert.equal(signature !== null, saslPrepare(tried) === prepared.password);
        if (signature !== null) assert.ok(client.isServer(`v=${signature.toString('base64')}`));
      }
    }),
    { numRuns: 40 },
  );
});
