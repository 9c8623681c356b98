import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isHeloName, parseMailbox, parsePath } from '../../src/protocol/address.ts';

const address = (text: string) => parsePath(text, 0)?.address;
const strictly = (text: string) => parsePath(text, 0, true)?.address;

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
  ]) {
    assert.equal(address(`<${good}@b.example>`), `${good}@b.example`, good);
    assert.equal(strictly(`<${good}@b.example>`), `${good}@b.example`, good);
  }
  for (const bad of [
    '',
    '.',
    '..',
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

test('what exists beside the grammar is taken as written, unless it is to be strict', () => {
  for (const [written, domain] of [
    ['a..b@c.example', 'c.example'],
    ['user.@c.example', 'c.example'],
    ['.user@c.example', 'c.example'],
    ['..a...b..@c.example', 'c.example'],
    ['ü.@c.example', 'c.example'],
    [`${'l'.repeat(200)}@c.example`, 'c.example'],
    ['x@my_host.example', 'my_host.example'],
    ['x@_dmarc.My_Host.example', '_dmarc.my_host.example'],
    ['x@my_bücher.example', 'xn--my_bcher-95a.example'],
    ['x@c.example.', 'c.example'],
    ['x@MÜNCHEN.example.', 'xn--mnchen-3ya.example'],
    ['x@[::1]', '[ipv6:::1]'],
    ['x@[2001:DB8:0::1]', '[ipv6:2001:db8::1]'],
    ['x@[::ffff:192.0.2.1]', '[192.0.2.1]'],
  ] as const) {
    assert.equal(address(`<${written}>`), written);
    assert.equal(parsePath(`<${written}>`, 0)?.domain, domain, written);
    assert.equal(parseMailbox(written)?.address, written);
    // An IPv6 literal without its tag may be one with a tag nobody knows, to the letter.
    if (!written.includes('[2001')) assert.equal(strictly(`<${written}>`), undefined, written);
  }
});

test('domains: labels of letters, digits and inner hyphens', () => {
  for (const good of ['b', 'b.example', 'B-1.example', '1.example', 'a--b.example', 'xn--mnchen-3ya.example'])
    assert.equal(strictly(`<a@${good}>`), `a@${good}`, good);
  for (const bad of ['', '.', '.b', 'b..c', 'b..', '-b', 'b-', 'b-.', 'b-.c', 'b c', 'b@c', 'b,c', '[b]'])
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
    assert.equal(strictly(`<a@${good}>`), `a@${good}`, good);
  for (const bad of [
    '[]',
    '[:::]',
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

test('lengths in octets: local part 64 to the letter, label 63, domain 255, path 256', () => {
  const local = 'l'.repeat(64);
  assert.equal(strictly(`<${local}@b.example>`), `${local}@b.example`);
  assert.equal(strictly(`<l${local}@b.example>`), undefined);
  assert.equal(strictly(`<"${'l'.repeat(63)}"@b.example>`), undefined);
  assert.equal(address(`<${'l'.repeat(245)}@b.example>`), undefined, 'path of 257');
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
  assert.equal(strictly(`<${'ö'.repeat(33)}@b.example>`), undefined, '66 octets of local part');
  assert.notEqual(strictly(`<${'ö'.repeat(32)}@b.example>`), undefined);
  assert.equal(parsePath('<a@b＿c.example>', 0, true), null, 'an underscore in disguise');
});

test('a mailbox without brackets', () => {
  assert.equal(parseMailbox('a@b.example')?.address, 'a@b.example');
  assert.equal(parseMailbox('a@b.example>x<'), null);
  assert.equal(parseMailbox('a'), null);
});

test('HELO names: whatever can stand in a trace header', () => {
  for (const good of [
    'a',
    'mail.example',
    'mail.example.',
    'WIN_HOST',
    '192.0.2.1',
    '2001:db8::1',
    '[192.0.2.1]',
    '[IPv6:::1]',
    '[::1]',
    '[2001:db8::1]',
    '[IPv6:fe80::1%eth0]',
    '[192.0.2.256]',
    '[my_host]',
    'a..b',
    '-a',
    "john's-pc",
    'r&d.local',
  ])
    assert.equal(isHeloName(good), true, good);
  for (const bad of [
    '',
    '.',
    '[',
    '[]',
    '[.]',
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

test('HELO names to the letter: a domain or an address literal', () => {
  for (const good of ['a', 'mail.example', '192.0.2.1', '[192.0.2.1]', '[IPv6:::1]'])
    assert.equal(isHeloName(good, true), true, good);
  for (const bad of [
    '',
    'WIN_HOST',
    'mail.example.',
    '2001:db8::1',
    '[::1]',
    '[192.0.2.256]',
    'a..b',
    '-a',
    'ü.example',
  ])
    assert.equal(isHeloName(bad, true), false, bad);
});
