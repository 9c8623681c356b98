import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signingDomains } from '../../src/signing/signing-domains.ts';

const ours = [
  'DKIM-Signature: v=1; a=rsa-sha256; d=Shop.example; s=s1;\r\n\tbh=abc; b=d=no.example\r\n',
  'dkim-signature:v=1; s=x;\r\n d = esp.\r\n  example ; b=x\r\n',
].join('');

test('signatures that we add vouch for a message, its own header is not read', () => {
  const fail = (): string => assert.fail();
  assert.deepEqual(signingDomains(ours, fail), ['shop.example', 'esp.example']);
});

test('else those that it came with do, else its author', () => {
  const theirs = 'Received: by x\r\nDKIM-Signature: d=up.example; b=x\r\nFrom: a@shop.example';
  assert.deepEqual(
    signingDomains('', () => theirs),
    ['up.example'],
  );
  assert.deepEqual(
    signingDomains('X-Other: d=no.example\r\n', () => 'From: A <a@Shop.example>\r\nSubject: d=x'),
    ['shop.example'],
  );
});

test('what is no domain, and a message without author, vouch for nothing', () => {
  const strange = 'DKIM-Signature: d=; d=a b; x\r\nDKIM-Signature:\r\nSubject: x';
  assert.deepEqual(
    signingDomains('', () => strange),
    ['ab'],
  );
  assert.deepEqual(
    signingDomains('', () => ''),
    [],
  );
  const many = Array.from({ length: 100 }, (_, i) => `DKIM-Signature: d=d${i}.example\r\n`).join('');
  assert.equal(signingDomains(many, () => '').length, 8);
});
