import assert from 'node:assert/strict';
import { test } from 'node:test';
import { egress } from '../../src/config/egress-schema.ts';
import { SourceChecks, type SourceDns, type SourceStanding } from '../../src/egress/source-checks.ts';

const HOUR = 3_600_000;

function world(
  config: object,
  zone: Record<string, string[] | null>,
  here: string[] = ['192.0.2.11'],
  spf: Record<string, string | null> = {},
) {
  const local = new Set(here);
  const asked: string[] = [];
  const changes: string[] = [];
  const ask = async (name: string) => {
    asked.push(name);
    return zone[name] === undefined ? [] : zone[name];
  };
  const dns: SourceDns = {
    ptr: ask,
    addresses: ask,
    async spf(domain, address) {
      asked.push(`spf ${domain} ${address}`);
      const [result = 'none', fault = ''] = spf[domain]?.split(': ') ?? [];
      return spf[domain] === null ? null : { result, fault };
    },
  };
  const time = { now: 1_000_000_000_000 };
  const checks = new SourceChecks({
    dns,
    rules: () => ({ egress: egress.parse(config), ehloName: 'mx.example.com', domains: Object.keys(spf) }),
    now: () => time.now,
    isLocal: async (address) => local.has(address),
    changed: ({ source, present }, before) => changes.push(`${source} ${before?.present ?? '-'} ${present}`),
  });
  return { checks, local, asked, changes, time };
}

const said = (standing: SourceStanding | undefined) =>
  standing?.findings.map(({ check, ok, detail }) => `${check} ${ok} ${detail}`.trim());

const A1 = { name: 'a1', address: '192.0.2.11', ehlo_name: 'a1.example.com' };
const GOOD = { '11.2.0.192.in-addr.arpa': ['a1.example.com'], 'a1.example.com': ['192.0.2.11'] };

test('a source whose names agree', async () => {
  const { checks } = world({ sources: [A1] }, GOOD);
  await checks.check();
  assert.deepEqual(said(checks.standing('a1')), [
    'address true',
    'ptr true a1.example.com',
    'ehlo_name true a1.example.com',
  ]);
});

for (const [name, zone, findings] of [
  ['no PTR', { ...GOOD, '11.2.0.192.in-addr.arpa': [] }, ['ptr false 192.0.2.11 has no PTR record', 'ehlo_name true a1.example.com']],
  ['a PTR to a name of another', { ...GOOD, '11.2.0.192.in-addr.arpa': ['x.example.com'] }, ['ptr false x.example.com does not lead back to 192.0.2.11', 'ehlo_name true a1.example.com']],
  ['one PTR of two leads back', { ...GOOD, '11.2.0.192.in-addr.arpa': ['x.example.com', 'a1.example.com'] }, ['ptr true a1.example.com', 'ehlo_name true a1.example.com']],
  ['an EHLO name that leads elsewhere', { ...GOOD, 'a1.example.com': ['192.0.2.99'] }, ['ptr false a1.example.com does not lead back to 192.0.2.11', 'ehlo_name false a1.example.com leads to 192.0.2.99, not to 192.0.2.11']],
  ['no DNS', { '11.2.0.192.in-addr.arpa': null, 'a1.example.com': null }, ['ptr null DNS gives no answer', 'ehlo_name null DNS gives no answer for a1.example.com']],
] as const) // biome-ignore format: one case a line reads as the table it is.
  test(name, async () => {
    const { checks } = world({ sources: [A1] }, zone as unknown as Record<string, string[] | null>);
    await checks.check();
    assert.deepEqual(said(checks.standing('a1')), ['address true', ...findings]);
  });

for (const [name, spf, finding] of [
  ['SPF covers it', { 'b.test': 'pass', 'c.test': 'pass' }, 'spf true b.test, c.test'],
  ['SPF of one does not', { 'b.test': 'softfail', 'c.test': 'pass' }, 'spf false 192.0.2.11 is not covered by b.test (softfail)'],
  ['SPF is broken', { 'b.test': 'permerror: two records', 'c.test': null }, 'spf false 192.0.2.11 is not covered by b.test (permerror: two records)'],
  ['no answer of one is no fault', { 'b.test': 'pass', 'c.test': null }, 'spf null DNS gives no answer for c.test'],
] as const) // biome-ignore format: one case a line reads as the table it is.
  test(name, async () => {
    const { checks } = world({ sources: [A1] }, GOOD, undefined, spf);
    await checks.check();
    assert.equal(said(checks.standing('a1'))?.[3], finding);
  });

test('of many domains a part is looked at, and it says so', async () => {
  const spf = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`d${i}.test`, 'pass']));
  const sources = Array.from({ length: 101 }, (_, i) => ({ name: `a${i}`, address: '192.0.2.11' }));
  const { checks, asked } = world({ sources }, {}, undefined, spf);
  await checks.check();
  assert.equal(asked.filter((one) => one.startsWith('spf ')).length, 5000);
  assert.match(
    said(checks.standing('a0'))?.[3] ?? '',
    /^spf true d0\.test,.*; 10 more domains are not looked at$/,
  );
  assert.equal(said(checks.standing('a100'))?.[3], 'spf null not looked at: 5000 in a round');
});

test('an address that is not on this host, and comes back', async () => {
  const { checks, local, changes } = world({ sources: [A1] }, GOOD, []);
  await checks.lookAtAddresses();
  assert.deepEqual(said(checks.standing('a1')), ['address false 192.0.2.11 is no address of this host']);
  await checks.check();
  assert.equal(said(checks.standing('a1'))?.[0], 'address false 192.0.2.11 is no address of this host');
  assert.equal(checks.standing('a1')?.present, false);
  local.add('192.0.2.11');
  await checks.lookAtAddresses();
  assert.equal(checks.standing('a1')?.present, true);
  assert.deepEqual(said(checks.standing('a1'))?.slice(0, 2), ['address true', 'ptr true a1.example.com']);
  assert.deepEqual(changes, ['a1 - false', 'a1 false false', 'a1 false true']);
});

test('behind HAProxy the address lies there; a source without address has only a name', async () => {
  const sources = [{ ...A1, proxy: 'haproxy://192.0.2.1:9' }, { name: 'b1' }];
  const { checks } = world({ sources }, { ...GOOD, 'mx.example.com': ['198.51.100.1'] }, []);
  await checks.check();
  assert.deepEqual(said(checks.standing('a1')), ['ptr true a1.example.com', 'ehlo_name true a1.example.com']);
  assert.deepEqual(said(checks.standing('b1')), ['ehlo_name true mx.example.com']);
});

test('lists are asked at most once an hour; what says that a list does not answer us is no listing', async () => {
  const zone: Record<string, string[] | null> = {
    ...GOOD,
    '11.2.0.192.bl.example': ['127.0.0.2'],
    '11.2.0.192.shy.example': ['127.255.255.254'],
  };
  const { checks, asked, time } = world({ sources: [A1], dnsbls: ['bl.example', 'shy.example'] }, zone);
  const last = () => said(checks.standing('a1'))?.at(-1);
  await checks.check();
  assert.equal(last(), 'dnsbl false listed by bl.example');
  zone['11.2.0.192.bl.example'] = [];
  time.now += HOUR - 1;
  await checks.check();
  assert.equal(last(), 'dnsbl false listed by bl.example');
  assert.equal(asked.filter((name) => name.endsWith('.bl.example')).length, 1);
  time.now += 1;
  await checks.check();
  assert.equal(last(), 'dnsbl null no answer of shy.example');
  zone['11.2.0.192.shy.example'] = [];
  time.now += HOUR;
  await checks.check();
  assert.equal(last(), 'dnsbl true');
});

test('IPv6: nibbles in reverse', async () => {
  const { checks, asked } = world(
    { sources: [{ name: 'a', address: '2001:db8::1' }], dnsbls: ['bl.example'] },
    {},
    ['2001:db8::1'],
  );
  await checks.check();
  const nibbles = '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2';
  assert.ok(asked.includes(`${nibbles}.ip6.arpa`));
  assert.ok(asked.includes(`${nibbles}.bl.example`));
});

test('by binding: an address of this host, one that is not, and one that no interface names', async () => {
  const sources = ['127.0.0.1', '127.77.0.9', '192.0.2.1'].map((address, i) => ({ name: `s${i}`, address }));
  const checks = new SourceChecks({
    dns: { ptr: async () => null, addresses: async () => null, spf: async () => null },
    rules: () => ({ egress: egress.parse({ sources }), ehloName: 'x', domains: [] }),
    now: Date.now,
    changed() {},
  });
  await checks.lookAtAddresses();
  assert.deepEqual(
    sources.map(({ name }) => checks.standing(name)?.present),
    [true, true, false],
  );
});
