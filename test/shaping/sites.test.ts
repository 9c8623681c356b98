/** Which domains are one site, and which provider they belong to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadShaping, SHIPPED_SHAPING } from '../../src/shaping/shaping-file.ts';
import { type MxHost, Sites } from '../../src/shaping/sites.ts';

const { data } = loadShaping({ file: SHIPPED_SHAPING, overrides_file: '', rollup: 'mx_set' });
const own = {
  name: 'own',
  match: { mx_suffix: ['deep.google.com'], mx_exact: ['mx.own.test'], domain: ['by-name.test'] },
  limits: {},
  total: {},
};
const providers = [...data.providers, own];
const sites = new Sites(providers, 'mx_set');
const mx = (...hosts: string[]): MxHost[] => hosts.map((exchange, i) => ({ preference: 10 * i, exchange }));
const equal = (...hosts: string[]): MxHost[] => hosts.map((exchange) => ({ preference: 5, exchange }));

/** MX layouts as the providers publish them. */
const LAYOUTS: [domain: string, hosts: MxHost[], provider: string][] = [
  ['gmail.com', mx('gmail-smtp-in.l.google.com', 'alt1.gmail-smtp-in.l.google.com'), 'google'],
  ['workspace.test', mx('aspmx.l.google.com', 'aspmx2.googlemail.com'), 'google'],
  ['new-workspace.test', mx('smtp.google.com'), 'google'],
  ['yahoo.com', equal('mta5.am0.yahoodns.net', 'mta6.am0.yahoodns.net'), 'yahoo'],
  ['outlook.com', mx('outlook-com.olc.protection.outlook.com'), 'microsoft'],
  ['tenant.test', mx('tenant-test.mail.protection.outlook.com'), 'office365'],
  ['dane.test', mx('dane-test.q-v1.mx.microsoft'), 'office365'],
  ['icloud.com', equal('mx01.mail.icloud.com', 'mx02.mail.icloud.com'), 'apple'],
  ['web.de', equal('mx-ha02.web.de', 'mx-ha03.web.de'), 'gmx'],
  ['mail.com', equal('mx00.mail.com', 'mx01.mail.com'), 'mail_com'],
  ['yahoo.co.jp', equal('mx1.mail.yahoo.co.jp', 'mx2.mail.yahoo.co.jp'), 'yahoo_jp'],
  ['qq.com', mx('mx3.qq.com', 'mx2.qq.com'), 'qq'],
  ['163.com', mx('163mx01.mxmail.netease.com'), 'netease'],
];

test('the MX layouts of the shipped providers belong to them', () => {
  for (const [domain, hosts, provider] of LAYOUTS)
    assert.deepEqual(sites.of(domain, hosts), { key: provider, provider }, domain);
});

test('all hosts of the best preference must belong to the provider; others do not count', () => {
  assert.equal(sites.of('a.test', equal('aspmx.l.google.com', 'mx.a.test')).provider, '');
  assert.equal(sites.of('a.test', equal('aspmx.l.google.com', 'mta5.am0.yahoodns.net')).provider, '');
  assert.equal(sites.of('a.test', mx('aspmx.l.google.com', 'backup.a.test')).provider, 'google');
  assert.equal(sites.of('a.test', mx('mx.a.test', 'aspmx.l.google.com')).provider, '');
});

test('the longest end of a name counts, names before domains, and an end is a whole label', () => {
  assert.equal(sites.of('a.test', mx('mx.deep.google.com')).provider, 'own');
  assert.equal(sites.of('a.test', mx('mx.own.test')).provider, 'own');
  assert.equal(sites.of('a.test', mx('a.mx.own.test')).provider, '');
  assert.equal(sites.of('by-name.test', mx('mx.elsewhere.test')).provider, 'own');
  assert.equal(sites.of('by-name.test', mx('aspmx.l.google.com')).provider, 'google');
  assert.equal(sites.of('a.test', mx('notgoogle.com')).provider, '');
  assert.equal(sites.of('google.com', []).provider, 'google', 'a domain without MX is its own host');
});

test('domains of no provider share a site as shaping.rollup says', () => {
  const of = (rollup: 'mx_set' | 'mx_domain' | 'none', hosts: MxHost[]) =>
    new Sites(providers, rollup).of('a.test', hosts).key;
  const hosts = mx('mx2.host.co.uk', 'mx1.host.co.uk');
  assert.equal(of('mx_set', hosts), 'mx:mx1.host.co.uk,mx2.host.co.uk');
  assert.equal(of('mx_set', [...hosts].reverse()), 'mx:mx1.host.co.uk,mx2.host.co.uk');
  assert.equal(of('mx_set', []), 'mx:a.test');
  assert.equal(of('mx_domain', hosts), 'mx:host.co.uk');
  assert.equal(of('mx_domain', equal('mx.one.test', 'mx.two.test')), 'mx:mx.one.test,mx.two.test');
  assert.equal(of('mx_domain', mx('localhost')), 'mx:localhost');
  assert.equal(of('none', hosts), 'domain:a.test');
});

test('the key of a site has at most 200 characters, and differs for other hosts', () => {
  const many = (last: string) =>
    sites.of('a.test', equal(...Array.from({ length: 40 }, (_, i) => `mx${i}.long-name.test`), last)).key;
  assert.equal(many('x.test').length, 200);
  assert.notEqual(many('x.test'), many('y.test'));
});
