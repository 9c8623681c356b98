import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { RelayError } from '../../src/base/errors.ts';
import { makeSelfSigned } from '../../src/native.ts';
import { groupByName, readCertificate } from '../../src/tls/certificates.ts';
import { writeSelfSigned } from '../../src/tls/self-signed.ts';

const folder = mkdtempSync(join(tmpdir(), 'certificates-'));
after(() => rmSync(folder, { recursive: true }));

const ec = (...names: string[]) => ({ names, keyType: 'ec' });
const rsa = (...names: string[]) => ({ names, keyType: 'rsa' });

test('certificates of two key types for the same names serve together', () => {
  assert.deepEqual(groupByName([rsa('a.test', 'b.test'), ec('a.test', 'b.test')]), [
    { certificates: [0, 1], names: ['a.test', 'b.test'] },
  ]);
});

test('each name has the certificates that are good for it, the first of its type', () => {
  assert.deepEqual(groupByName([rsa('a.test'), ec('b.test', 'a.test'), rsa('b.test'), rsa('a.test')]), [
    { certificates: [0, 1], names: ['a.test'] },
    { certificates: [1, 2], names: ['b.test'] },
  ]);
});

test('a wildcard stands in for the type of key that an exact name lacks', () => {
  assert.deepEqual(groupByName([ec('mx.a.test'), rsa('*.a.test'), ec('*.a.test')]), [
    { certificates: [0, 1], names: ['mx.a.test'] },
    { certificates: [1, 2], names: ['*.a.test'] },
  ]);
});

test('the first certificate serves those who name nothing, also when it has no name', () => {
  assert.deepEqual(groupByName([ec(), rsa('a.test')]), [
    { certificates: [0], names: [] },
    { certificates: [1], names: ['a.test'] },
  ]);
});

test('a certificate is read with its names; what is wrong names key and file', () => {
  const { certificate, key } = makeSelfSigned(['Mail.Example.test', '192.0.2.1'], 5, 'ecdsa');
  const certFile = join(folder, 'one.crt');
  const both = join(folder, 'both.pem');
  const none = join(folder, 'none.pem');
  writeFileSync(certFile, certificate);
  writeFileSync(both, certificate + key);
  writeFileSync(none, 'hello');
  assert.deepEqual(readCertificate(both, undefined, 'tls').names, ['mail.example.test']);
  const fails = (pattern: RegExp, file: string, keyFile?: string) =>
    assert.throws(
      () => readCertificate(file, keyFile, 'tls.certificates[0]'),
      (error: RelayError) => error.code === 'config_invalid' && pattern.test(error.message),
    );
  fails(/^tls\.certificates\[0\]\.cert_file: .*none\.pem holds no certificate/, none);
  fails(/^tls\.certificates\[0\]\.cert_file: .*one\.crt holds no private key/, certFile);
  fails(/^tls\.certificates\[0\]\.key_file: .*none\.pem holds no private key/, certFile, none);
  fails(/^tls\.certificates\[0\]\.key_file: .*gone\.key is not there/, certFile, join(folder, 'gone.key'));
});

test('self-signed writes a pair that belongs together, the key for its owner only, and spares what is there', () => {
  const out = join(folder, 'new');
  for (const keyType of ['ecdsa', 'rsa'] as const) {
    const text = writeSelfSigned({
      names: ['a.test', '::1'],
      days: 3,
      keyType,
      folder: out,
      force: keyType === 'rsa',
    });
    assert.match(text, /server\.crt.*for a\.test, ::1, 3 days/);
    const { leaf, key, names } = readCertificate(join(out, 'server.crt'), join(out, 'server.key'), 'tls');
    assert.deepEqual(names, ['a.test']);
    assert.ok(leaf.checkIP('::1'));
    assert.equal(leaf.publicKey.asymmetricKeyType, keyType === 'rsa' ? 'rsa' : 'ec');
    assert.match(key, /PRIVATE KEY/);
    const days = (Date.parse(leaf.validTo) - Date.now()) / 86_400_000;
    assert.ok(days > 2.9 && days <= 3, `${days} days`);
    assert.equal(statSync(join(out, 'server.key')).mode & 0o777, 0o600);
  }
  assert.throws(
    () => writeSelfSigned({ names: ['a.test'], days: 3, keyType: 'ecdsa', folder: out, force: false }),
    (error) => error instanceof RelayError && /--force/.test(error.message),
  );
});
