import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { parseIp } from '../../src/base/ip.ts';
import { configSchema } from '../../src/config/schema.ts';
import { Queries } from '../../src/dns/queries.ts';
import { dmarcOf, isAligned, walkFrom } from '../../src/lint/dmarc.ts';
import { LookUp } from '../../src/lint/look-up.ts';
import { checkSpf } from '../../src/lint/spf.ts';
import { DnsServer } from '../support/dns-server.ts';

let server: DnsServer;
let dns: LookUp;

const spf = (text: string) => ({ TXT: ['other text', `v=spf1 ${text}`] });
const chain = Object.fromEntries(
  Array.from({ length: 12 }, (_, i) => [`c${i}.test`, spf(`include:c${i + 1}.test -all`)]),
);

before(async () => {
  server = await DnsServer.start({
    ...chain,
    'c12.test': spf('-all'),
    'plain.test': spf('ip4:192.0.2.0/24 ip6:2001:db8::/32 -all'),
    'hosts.test': { A: ['192.0.2.9'], MX: [[10, 'mx.test']], ...spf('a:mx.test/28 mx -all') },
    'mx.test': { A: ['198.51.100.17'], AAAA: ['2001:db8:1::1'] },
    'outer.test': spf('?include:plain.test ~include:soft.test a:plain.test -all'),
    'soft.test': spf('~all'),
    'moved.test': spf('redirect=plain.test'),
    'moved-wrong.test': spf('redirect=nothing.test'),
    'macro.test': spf('exists:%{ir}.%{v}._spf.%{d2} include:%{d1r}%{h}%%.test -all'),
    '7.2.0.192.in-addr._spf.macro.test': { A: ['127.0.0.2'] },
    'named.test': spf('ptr -all'),
    '5.113.0.203.in-addr.arpa': { PTR: ['a.named.test', 'b.other.test'] },
    'a.named.test': { A: ['203.0.113.5'] },
    'twice.test': { TXT: ['v=spf1 -all', 'v=spf1 ~all'] },
    'odd.test': spf('ip4:192.0.2.0/24 nonsense -all'),
    'network.test': spf('ip4:2001:db8::/32 -all'),
    'void.test': spf('a:n1.test a:n2.test a:n3.test -all'),
    'loop.test': spf('include:loop.test -all'),
    'broken.test': { fault: 'SERVFAIL' },
    'other.test': { TXT: ['v=spf10 +all'] },
    // DMARC
    '_dmarc.example.test': { TXT: ['v=DMARC1; p=reject; sp=quarantine; rua=mailto:d@example.test'] },
    '_dmarc.own.example.test': { TXT: ['v=DMARC1;p=none;adkim=s'] },
    '_dmarc.suffix.test': { TXT: ['v=DMARC1; p=reject; psd=y'] },
    '_dmarc.edge.example.test': { TXT: ['v=DMARC1; p=quarantine; psd=n'] },
    '_dmarc.two.test': { TXT: ['v=DMARC1; p=none', 'v=DMARC1; p=reject'] },
    '_dmarc.not.test': { TXT: ['v=DMARC12; p=none', 'p=none'] },
  });
  const { dns: rules } = configSchema.parse({
    dns: { servers: [server.address], timeout_ms: 500, tries: 1 },
  });
  dns = new LookUp(new Queries(rules));
});

after(() => server.stop());

test('SPF of an address, by every kind of term', async () => {
  const table: [domain: string, ip: string, result: string, lookups: number][] = [
    ['plain.test', '192.0.2.77', 'pass', 0],
    ['plain.test', '192.0.3.1', 'fail', 0],
    ['plain.test', '2001:db8:5::1', 'pass', 0],
    ['hosts.test', '198.51.100.30', 'pass', 1],
    ['hosts.test', '198.51.100.17', 'pass', 1],
    ['hosts.test', '2001:db8:1::1', 'pass', 1],
    ['hosts.test', '192.0.2.9', 'fail', 2],
    ['outer.test', '192.0.2.1', 'neutral', 1],
    ['outer.test', '203.0.113.1', 'fail', 3],
    ['moved.test', '192.0.2.1', 'pass', 1],
    ['macro.test', '192.0.2.7', 'pass', 1],
    ['named.test', '203.0.113.5', 'pass', 1],
    ['named.test', '203.0.113.6', 'fail', 1],
    ['nothing.test', '192.0.2.1', 'none', 0],
    ['other.test', '192.0.2.1', 'none', 0],
  ];
  for (const [domain, ip, result, lookups] of table) {
    const verdict = await checkSpf(dns, domain, parseIp(ip));
    assert.deepEqual(
      [verdict.result, verdict.lookups],
      [result, lookups],
      `${domain} ${ip}: ${verdict.fault}`,
    );
  }
});

test('SPF records that receivers cannot use', async () => {
  const table: [string, RegExp][] = [
    ['c0.test', /more than 10 look-ups/],
    ['loop.test', /more than 10 look-ups/],
    ['twice.test', /has 2 SPF records/],
    ['odd.test', /a term "nonsense"/],
    ['network.test', /no network/],
    ['moved-wrong.test', /redirect=nothing\.test of moved-wrong\.test has no SPF record/],
    ['void.test', /find nothing/],
    ['macro.test', /include:macromacro\.test%\.test of macro\.test has no SPF record/],
  ];
  for (const [domain, fault] of table) {
    const verdict = await checkSpf(dns, domain, parseIp('203.0.113.9'));
    assert.equal(verdict.result, 'permerror', domain);
    assert.match(verdict.fault, fault);
  }
  // Ten are taken, and without an address all that there is is read.
  assert.deepEqual((({ result, lookups }) => [result, lookups])(await checkSpf(dns, 'c2.test', null)), [
    'neutral',
    10,
  ]);
  assert.equal((await checkSpf(dns, 'named.test', null)).usesPtr, true);
  await assert.rejects(checkSpf(dns, 'broken.test', null), /SERVFAIL/);
});

test('the tree walk: names asked about', () => {
  assert.deepEqual(walkFrom('a.example.test'), ['a.example.test', 'example.test', 'test']);
  const long = 'a.b.c.d.e.f.g.h.i.j.example.test';
  assert.deepEqual(walkFrom(long).slice(0, 3), [
    long,
    'g.h.i.j.example.test'.replace('g.', 'f.g.'),
    'g.h.i.j.example.test',
  ]);
  assert.equal(walkFrom(long).length, 8);
});

test('the policy and the organization of a domain', async () => {
  const table: [domain: string, at: string | null, organization: string][] = [
    ['example.test', 'example.test', 'example.test'],
    ['a.b.example.test', 'example.test', 'example.test'],
    ['own.example.test', 'own.example.test', 'example.test'],
    ['a.edge.example.test', 'edge.example.test', 'edge.example.test'],
    ['a.shop.suffix.test', 'suffix.test', 'shop.suffix.test'],
    ['two.test', null, 'two.test'],
    ['not.test', null, 'not.test'],
  ];
  for (const [domain, at, organization] of table) {
    const facts = await dmarcOf(dns, domain);
    assert.deepEqual([facts.policy?.domain ?? null, facts.organization], [at, organization], domain);
  }
  const { policy } = await dmarcOf(dns, 'x.example.test');
  assert.deepEqual([policy?.policy, policy?.subdomains, policy?.hasReports], ['reject', 'quarantine', true]);
  assert.deepEqual((await dmarcOf(dns, 'two.test')).ambiguous, ['two.test']);
});

test('alignment: the same organization, or where it is strict the same domain', async () => {
  assert.equal(await isAligned(dns, 'a.example.test', 'b.example.test', false), true);
  assert.equal(await isAligned(dns, 'a.example.test', 'b.example.test', true), false);
  assert.equal(await isAligned(dns, 'a.example.test', 'x.edge.example.test', false), false);
  assert.equal(await isAligned(dns, 'a.suffix.test', 'b.suffix.test', false), false);
  assert.equal(await isAligned(dns, 'none.test', 'none.test', true), true);
});
