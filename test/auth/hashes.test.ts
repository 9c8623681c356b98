/** Password hashes against those other programs made. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isHash, makeHash, parseScram, schemeOf, verifyHash } from '../../src/auth/hashes.ts';
import { SCHEMES } from '../../src/auth/schemes.ts';
import { sha512Crypt } from '../../src/auth/sha512-crypt.ts';
import { run } from '../support/child.ts';
import { skipWithout } from '../support/programs.ts';

/** Hash, password; who made it. */
// biome-ignore format: a table.
const FOREIGN: [string, string][] = [
  // passlib's documentation
  ['$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E', 'password'],
  // the command-line program of the reference implementation of Argon2
  ['$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc', 'password'],
  ['$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA', 'password'],
  // the test vectors of OpenBSD's bcrypt, as jBCrypt has them
  ['$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe', 'a'],
  ['$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.', 'abcdefghijklmnopqrstuvwxyz'],
  // Drepper's specification
  [
    '$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1',
    'Hello world!',
  ],
];

for (const [hash, password] of FOREIGN) {
  test(`${hash.slice(0, 24)}… of another program is verified`, () => {
    assert.ok(isHash(hash));
    assert.equal(verifyHash(hash, password), true);
    assert.equal(verifyHash(hash, `${password}x`), false);
  });
}

test('SHA-512-crypt: the vectors of its specification', () => {
  // biome-ignore format: a table.
  const vectors: [string, string, string][] = [
    ['$6$rounds=10000$saltstringsaltstring', 'Hello world!', '$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.'],
    ['$6$rounds=5000$toolongsaltstring', 'This is just a test', '$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0'],
    ['$6$rounds=1400$anotherlongsaltstring', 'a very much longer text to encrypt.  This one even stretches over morethan one line.', '$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1'],
    ['$6$rounds=77777$short', 'we have a short salt string but not a short password', '$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0'],
    ['$6$rounds=123456$asaltof16chars..', 'a short string', '$6$rounds=123456$asaltof16chars..$BtCwjqMJGx5hrJhZywWvt0RLE8uZ4oPwcelCjmw2kSYu.Ec6ycULevoBK25fs2xXgMNrCzIMVcgEJAstJeonj1'],
    ['$6$rounds=10$roundstoolow', 'the minimum number is still observed', '$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX.'],
  ];
  for (const [setting, password, hash] of vectors) assert.equal(sha512Crypt(password, setting), hash);
  assert.equal(sha512Crypt('x', '$5$salt'), null);
});

test('SHA-512-crypt as openssl has it, for random lengths', { skip: skipWithout('openssl') }, async () => {
  for (const length of [1, 15, 31, 32, 33, 64, 120]) {
    const password = 'ä'.repeat(length);
    const ran = await run('openssl', ['passwd', '-6', '-salt', 'pepper', '-stdin'], {
      input: `${password}\n`,
    });
    assert.equal(sha512Crypt(password, '$6$pepper'), ran.stdout.trim(), `${length}`);
  }
});

test('bcrypt takes 72 bytes: a longer password is neither hashed nor taken for its beginning', () => {
  const longest = `${'ä'.repeat(35)}xy`;
  const hash = makeHash(longest, 'bcrypt');
  assert.equal(verifyHash(hash, longest), true);
  assert.equal(verifyHash(hash, `${longest}z`), false);
  assert.throws(() => makeHash(`${longest}z`, 'bcrypt'), /72 bytes/);
});

test('what we make we verify, each with a salt of its own', () => {
  for (const scheme of SCHEMES) {
    const hash = makeHash('pässword', scheme);
    assert.equal(schemeOf(hash), scheme);
    assert.equal(verifyHash(hash, 'pässword'), true, scheme);
    assert.equal(verifyHash(hash, 'passwort'), false, scheme);
    if (scheme !== 'plain') assert.notEqual(makeHash('pässword', scheme), hash);
  }
});

test('what is no hash, or asks for absurd work or memory, is not verified', () => {
  for (const bad of [
    '',
    'x',
    '$1$salt$hash',
    '{PLAIN}',
    '$6$salt$short',
    `$2b$31$${'.'.repeat(53)}`,
    '$2b$10$short',
    '$scrypt$ln=30,r=8,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA',
    '$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
    '$argon2id$v=16$m=1024,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
    'SCRAM-SHA-256$1:AAAA$AAAA:AAAA',
  ]) {
    assert.equal(isHash(bad), false, bad);
    assert.equal(verifyHash(bad, 'x'), false, bad);
  }
});

test('SCRAM keys are read in the form PostgreSQL stores them', () => {
  const hash =
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';
  assert.equal(parseScram(hash)?.iterations, 4096);
  assert.equal(verifyHash(hash, 'pencil'), true);
  assert.equal(verifyHash(hash, 'pen'), false);
});
