import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isHeloName, parseMailbox, parsePath } from '../../src/protocol/address.ts';

const address = (text: string) => parsePath(text, 0)?.address;

test('a path ends at its bracket and tells where', () => {
  assert.deepEqual(parsePath('RCPT TO:<a@B.example> NOTIFY=NEVER', 8), {
    address: 'a@B.example',
    domain: 'b.example',
    nonAscii: false,
    end: 21,
  });
});

test('the null path and postmaster have no domain', () => {
  assert.deepEqual(parsePath('<>', 0), { address: '', domain: '', nonAscii: false, end: 2 });
  assert.equal(parsePath('<PostMaster>', 0)?.domain, '');
  assert.equal(parsePath('<postmaste>', 0), null);
});

test('source routes are read past', () => {
  assert.equal(address('<@a.example:x@b.example>'), 'x@b.example');
  assert.equal(address('<@a.example,@c.example:x@b.example>'), 'x@b.example');
  for (const bad of [
    '<@a.example>',
    '<@a.example,x@b.example>',
    '<@a.example:>',
    '<@:x@b.example>',
    '<@a.example,:x@b.example>',
  ])
    assert.equal(parsePath(bad, 0), null, bad);
});

test('local parts: dot-string of atext, or quoted', () => {
  for (const good of [
    "a!#$%&'*+-/=?^_`{|}~b",
    'a.b.c',
    '"a b"',
    '"a\\"b"',
    '"\\\\"',
    '""',
    '"a@b"',
    '"a>b"',
    '" "',
  ])
    assert.equal(address(`<${good}@b.example>`), `${good}@b.example`, good);
  for (const bad of [
    '',
    '.a',
    'a.',
    'a..b',
    'a b',
    'a,b',
    '"a',
    'a"b"',
    '"a"b',
    '"a\\',
    'a(b)',
    'a\tb',
    '"a\tb"',
    'a\\@b',
  ])
    assert.equal(parsePath(`<${bad}@b.example>`, 0), null, bad);
});

test('domains: labels of letters, digits and inner hyphens', () => {
  for (const good of ['b', 'b.example', 'B-1.example', '1.example', 'a--b.example', 'xn--mnchen-3ya.example'])
    assert.equal(address(`<a@${good}>`), `a@${good}`, good);
  for (const bad of ['', '.', 'b.', '.b', 'b..c', '-b', 'b-', 'b-.c', 'b_c', 'b c', 'b@c', 'b,c', '[b]'])
    assert.equal(parsePath(`<a@${bad}>`, 0), null, bad);
});

test('address literals', () => {
  for (const good of [
    '[192.0.2.1]',
    '[255.255.255.255]',
    '[IPv6:::1]',
    '[ipv6:2001:db8::192.0.2.1]',
    '[x-tag:any!text]',
  ])
    assert.equal(address(`<a@${good}>`), `a@${good}`, good);
  for (const bad of [
    '[]',
    '[192.0.2]',
    '[192.0.2.256]',
    '[192.0.2.1.1]',
    '[1922.0.2.1]',
    '[192.0.2.1',
    '[192.0.2.]',
    '[IPv6:]',
    '[IPv6:fe80::1%1]',
    '[IPv6:192.0.2.1]',
    '[tag-:x]',
    '[:x]',
    '[tag:]',
    '[tag:a b]',
  ])
    assert.equal(parsePath(`<a@${bad}>`, 0), null, bad);
  assert.equal(parsePath('<a@[IPv6:2001:DB8::1]>', 0)?.domain, '[ipv6:2001:db8::1]');
});

test('lengths in octets: local part 64, label 63, domain 255, path 256', () => {
  const local = 'l'.repeat(64);
  assert.equal(address(`<${local}@b.example>`), `${local}@b.example`);
  assert.equal(parsePath(`<l${local}@b.example>`, 0), null);
  assert.equal(parsePath(`<"${'l'.repeat(63)}"@b.example>`, 0), null);
  assert.notEqual(parsePath(`<a@${'d'.repeat(63)}.example>`, 0), null);
  assert.equal(parsePath(`<a@${'d'.repeat(64)}.example>`, 0), null);
  const domain = (length: number) => `${`${'d'.repeat(49)}.`.repeat(10)}`.slice(0, length - 1).concat('d');
  assert.notEqual(parsePath(`<a@${domain(252)}>`, 0), null);
  assert.equal(parsePath(`<a@${domain(253)}>`, 0), null, 'path of 257');
  assert.equal(parsePath(`<@x.example:a@${domain(253)}>`, 0), null);
});

test('outside ASCII: UTF-8 local parts and U-labels, which become A-labels in domain', () => {
  assert.deepEqual(parsePath('<jörg@MÜNCHEN.example>', 0), {
    address: 'jörg@MÜNCHEN.example',
    domain: 'xn--mnchen-3ya.example',
    nonAscii: true,
    end: 22,
  });
  assert.equal(parsePath('<用户@例子.广告>', 0)?.domain, 'xn--fsqu00a.xn--4rr70v');
  assert.equal(parsePath('<"jörg m"@b.example>', 0)?.domain, 'b.example');
  assert.equal(parsePath('<a\ufffd@b.example>', 0), null, 'octets that were no UTF-8');
  assert.equal(parsePath('<a@b\u2000c.example>', 0), null, 'no U-label');
  assert.equal(parsePath('<a@\u00ad.example>', 0), null, 'a label that vanishes');
  assert.equal(parsePath(`<${'ö'.repeat(33)}@b.example>`, 0), null, '66 octets of local part');
  assert.notEqual(parsePath(`<${'ö'.repeat(32)}@b.example>`, 0), null);
});

test('a mailbox without brackets', () => {
  assert.equal(parseMailbox('a@b.example')?.address, 'a@b.example');
  assert.equal(parseMailbox('a@b.example>x<'), null);
  assert.equal(parseMailbox('a'), null);
});

test('HELO names: lenient about underscores and bare addresses, strict about what breaks a header', () => {
  for (const good of [
    'a',
    'mail.example',
    'mail.example.',
    'WIN_HOST',
    '192.0.2.1',
    '2001:db8::1',
    '[192.0.2.1]',
    '[IPv6:::1]',
  ])
    assert.equal(isHeloName(good), true, good);
  for (const bad of [
    '',
    '.',
    'a..b',
    '-a',
    'a b',
    'a(b)',
    'a\r\nb',
    '[a',
    '[192.0.2.1]x',
    'ü.example',
    '<a>',
    'a;b',
    'x'.repeat(256),
  ])
    assert.equal(isHeloName(bad), false, bad);
});
