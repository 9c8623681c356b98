/** The section dkim: what the schema takes, and what is said of values that fit it and make no sense. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { checkSigning } from '../../src/config/signing-rules.ts';
import { checkKeyFiles } from '../../src/signing/check-files.ts';
import { makeKey } from '../native/dkim-rig.ts';

const key = { domain: 'example.com', selector: 's1', file: 's1.pem' };

function saidOf(dkim: object, check = checkSigning): string[] {
  const said: string[] = [];
  const say = (severity: string) => (path: readonly (string | number)[], message: string, mend?: string) =>
    void said.push(`${severity} ${path.join('.')}: ${message}${mend === undefined ? '' : `; ${mend}`}`);
  check(configSchema.parse({ dkim }), say('error'), say('warning'));
  return said;
}

test('domains in any form, one domain or several in also_sign, and the defaults', () => {
  const { dkim } = configSchema.parse({
    dkim: {
      keys: [{ ...key, domain: 'Bücher.example', selector: 'S1' }],
      also_sign: 'Bücher.example',
      threads: 2,
    },
  });
  assert.deepEqual(
    [dkim.keys[0]?.domain, dkim.keys[0]?.selector, dkim.also_sign, dkim.threads],
    ['xn--bcher-kva.example', 's1', ['xn--bcher-kva.example'], 2],
  );
  const { enabled, expire_s, on_error, sign_headers, oversign_headers, keys } = configSchema.parse({}).dkim;
  assert.deepEqual([enabled, expire_s, on_error, keys], [true, 0, 'defer', []]);
  assert.equal(sign_headers.length, 19);
  assert.deepEqual(
    oversign_headers.filter((name) => !sign_headers.includes(name)),
    [],
  );
  for (const wrong of [
    { keys: [{ ...key, not_before: 'tomorrow' }] },
    { keys: [{ ...key, selector: 'a b' }] },
    { sign_headers: ['From:'] },
    { also_sign: ['a.test', 'b.test', 'c.test', 'd.test', 'e.test'] },
  ])
    assert.equal(configSchema.safeParse({ dkim: wrong }).success, false, JSON.stringify(wrong));
});

test('what cannot be meant is named, with what may be meant', () => {
  assert.deepEqual(saidOf({ keys: [key], also_sign: 'example.com', expire_s: 86_400 }), []);
  for (const [dkim, said] of [
    [
      { keys: [key, { ...key, file: 'other.pem' }] },
      /^error dkim\.keys\.1\.selector: s1\._domainkey\.example\.com is dkim\.keys\[0\]/,
    ],
    [{ keys: [{ ...key, domain: 'a b' }] }, /^error dkim\.keys\.0\.domain: "a b" is no domain/],
    [{ keys: [key], also_sign: 'exmaple.com' }, /^error dkim\.also_sign: .*; did you mean "example\.com"\?/],
    [{ sign_headers: ['Subject'], oversign_headers: [] }, /^error dkim\.sign_headers: needs "From"/],
    [
      { sign_headers: ['From', 'Received'], oversign_headers: [] },
      /^error dkim\.sign_headers\.1: received changes/,
    ],
    [
      { sign_headers: ['From', 'from'], oversign_headers: [] },
      /^error dkim\.sign_headers\.1: from stands there twice/,
    ],
    [
      { sign_headers: ['From', 'Subject'], oversign_headers: ['Subjct'] },
      /^error dkim\.oversign_headers\.0: .*"Subject"\?/,
    ],
    [{ expire_s: 3600 }, /^warning dkim\.expire_s: .*a day/],
  ] as const) {
    const all = saidOf(dkim);
    assert.equal(all.length, 1, all.join('\n'));
    assert.match(all[0] as string, said);
  }
});

test('of key files: one that is missing or weak is a warning, one that nobody believes stops the start', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'dkim-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = (name: string, pem: string, mode = 0o600): object => {
    writeFileSync(join(dir, name), pem, { mode });
    return { ...key, selector: name, file: join(dir, name) };
  };
  const keys = [
    file('good', makeKey('ed25519').pem),
    { ...key, file: join(dir, 'none') },
    file('short', makeKey('rsa', 768).pem),
    file('weak', makeKey('rsa', 1024).pem),
    file('open', makeKey('ed25519').pem, 0o644),
  ];
  const said = saidOf({ keys }, checkKeyFiles).map((line) => line.replaceAll(`${dir}/`, ''));
  assert.deepEqual(
    said.map((line) => /^\w+ dkim\.keys\.\d\.file: \w+ \S+ \S+ \S+/.exec(line)?.[0]),
    [
      'warning dkim.keys.1.file: none is not there;',
      'error dkim.keys.2.file: short has 768 bits:',
      'warning dkim.keys.3.file: weak has 1024 bits;',
      'warning dkim.keys.4.file: open can be read',
    ],
  );
  assert.deepEqual(saidOf({ enabled: false, keys }, checkKeyFiles), []);
});
