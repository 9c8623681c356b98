import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RelayClasses } from '../../src/admission/recipient-class.ts';
import { RelayPolicy } from '../../src/admission/relay-policy.ts';
import { RelayError } from '../../src/base/errors.ts';

const clients = (networks: string[]) => {
  const policy = new RelayPolicy(networks, []);
  return (address: string) => policy.isRelayClient(address);
};

test('clients within a network may relay, others not', () => {
  const may = clients(['192.0.2.0/25', '198.51.100.7', '2001:db8::/32', '::1/128']);
  for (const address of ['192.0.2.0', '192.0.2.127', '198.51.100.7', '2001:db8:ffff::1', '::1'])
    assert.equal(may(address), true, address);
  for (const address of ['192.0.2.128', '198.51.100.8', '2001:db9::1', '::2', '127.0.0.1', '', 'nonsense'])
    assert.equal(may(address), false, address);
});

test('an IPv4 client seen through an IPv6 socket is the IPv4 client', () => {
  const may = clients(['192.0.2.0/24', '::ffff:198.51.100.0/120']);
  assert.equal(may('::ffff:192.0.2.1'), true);
  assert.equal(may('198.51.100.255'), true);
  assert.equal(may('::ffff:198.51.101.0'), false);
});

test('an IPv6 network does not hold IPv4 clients', () => {
  assert.equal(clients(['::/0'])('192.0.2.1'), false);
  assert.equal(clients(['0.0.0.0/0'])('::1'), false);
});

test('a Unix socket client always may', () => {
  assert.equal(clients([])('unix'), true);
});

test('answers do not depend on the address asked before', () => {
  const may = clients(['192.0.2.1']);
  assert.deepEqual(['192.0.2.1', '192.0.2.1', '192.0.2.2', '192.0.2.1'].map(may), [true, true, false, true]);
});

test('relay domains: exact, and subdomains with a leading dot', () => {
  const policy = new RelayPolicy([], ['example.com', '.example.org', 'münchen.example']);
  for (const domain of ['example.com', 'a.example.org', 'a.b.example.org', 'xn--mnchen-3ya.example'])
    assert.equal(policy.isRelayDomain(domain), true, domain);
  for (const domain of ['', 'a.example.com', 'example.org', 'xexample.org', 'org', '[192.0.2.1]'])
    assert.equal(policy.isRelayDomain(domain), false, domain);
});

test('entries that are no network or no domain are refused by name', () => {
  const invalid = (entry: RegExp) => (error: unknown) =>
    error instanceof RelayError && error.code === 'config_invalid' && entry.test(error.message);
  assert.throws(() => new RelayPolicy(['10.0.0.0/33'], []), invalid(/10\.0\.0\.0\/33/));
  assert.throws(() => new RelayPolicy(['office'], []), invalid(/"office"/));
  assert.throws(() => new RelayPolicy([], ['a b']), invalid(/"a b"/));
  assert.throws(() => new RelayPolicy([], ['.']), invalid(/"\."/));
});

test('recipients of relay domains are of class relay, all others external', () => {
  const classes = new RelayClasses(new RelayPolicy([], ['example.com']));
  assert.equal(classes.classOf('example.com'), 'relay');
  assert.equal(classes.classOf('example.net'), 'external');
});
