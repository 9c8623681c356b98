/** Which sites look like one, what lines are suggested, and that these lines do what they are for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergeSiteReports, type SiteReport } from '../../src/mail/site-report.ts';
import type { LearnedLimit } from '../../src/shaping/learned/learned-limits.ts';
import type { Provider } from '../../src/shaping/shaping-data.ts';
import { SiteTraffic } from '../../src/shaping/site-traffic.ts';
import { Sites } from '../../src/shaping/sites.ts';
import { alikeSites, learnedToFix, type Overrides, together } from '../../src/shaping/suggestions.ts';

const GOOGLE: Provider = {
  name: 'google',
  match: { mx_suffix: ['google.com'], mx_exact: ['mx.old.test'], domain: [] },
  limits: { max_connections: 5 },
  total: {},
};

function site(hosts: Record<string, string[]>, messages = 1, provider = ''): SiteReport {
  const names = Object.keys(hosts);
  return {
    site: provider === '' ? `mx:${names.join(',')}` : provider,
    provider,
    hosts: names.map((name) => ({ name, addresses: hosts[name] as string[] })),
    messages,
    recipients: messages,
    connections: 1,
    sinceMs: 0,
  };
}

/** The sites of these hosts once the lines are in a file. */
function sitesWith({ providers }: Overrides, all: readonly SiteReport[]): string[] {
  const own = Object.entries(providers).map(([name, { match }]): Provider => {
    const before =
      name === GOOGLE.name ? GOOGLE : { ...GOOGLE, match: { mx_suffix: [], mx_exact: [], domain: [] } };
    return { ...before, name, match: { ...before.match, ...match } };
  });
  const sites = new Sites([...own, ...(own.some(({ name }) => name === 'google') ? [] : [GOOGLE])], 'mx_set');
  return all.map(
    ({ hosts }) =>
      sites.of(
        'x.test',
        hosts.map(({ name }) => ({ preference: 10, exchange: name })),
      ).key,
  );
}

test('sites below one registered domain, or with an address in common, look like one; others do not', () => {
  const below = [
    site({ 'a.mx.example.co.uk': ['192.0.2.1'] }, 5),
    site({ 'b.mx.example.co.uk': ['192.0.2.2'], 'c.mx.example.co.uk': ['192.0.2.3'] }, 50),
  ];
  const atOnePlace = [
    site({ 'mail.one.test': ['192.0.2.9'] }, 9),
    site({ 'mx.two.test': ['192.0.2.8', '192.0.2.9'] }, 8),
  ];
  const others = [
    site({ 'mx.three.test': ['192.0.2.7'] }),
    site({ 'mx.three.test': [], 'mx.four.test': [] }),
  ];
  const alike = alikeSites([...below, ...atOnePlace, ...others], [GOOGLE]);
  assert.deepEqual(
    alike.map(({ by, value, sites }) => [by, value, sites.map((one) => one.messages)]),
    [
      ['mx_domain', 'example.co.uk', [50, 5]],
      ['address', '192.0.2.9', [9, 8]],
    ],
  );
  assert.deepEqual(alike[0]?.overrides, {
    providers: { 'example.co.uk': { match: { mx_suffix: ['example.co.uk'] } } },
  });
  const patch = together(alike.map(({ overrides }) => overrides));
  assert.deepEqual(sitesWith(patch, [...below, ...atOnePlace]), [
    'example.co.uk',
    'example.co.uk',
    'one.test',
    'one.test',
  ]);
  assert.deepEqual(
    sitesWith(patch, others),
    others.map(({ site: name }) => name.replace('three.test,mx.four', 'four.test,mx.three')),
  );
});

test('sites that are joined by a third are one', () => {
  const all = [
    site({ 'mx.a.test': ['192.0.2.1'] }),
    site({ 'mx.b.test': ['192.0.2.2'] }),
    site({ 'mx.c.test': ['192.0.2.1', '192.0.2.2'] }),
  ];
  const [group, ...more] = alikeSites(all, []);
  assert.equal(more.length, 0);
  assert.equal(group?.sites.length, 3);
  assert.equal(new Set(sitesWith(group?.overrides ?? { providers: {} }, all)).size, 1);
});

test('a site with the addresses of a provider is to join it, and its list keeps the names that it has', () => {
  const google = site({ 'aspmx.l.google.com': ['192.0.2.5'] }, 100, 'google');
  const vanity = site({ 'mx.shop.test': ['192.0.2.5'] });
  const [group] = alikeSites([google, vanity], [GOOGLE]);
  assert.deepEqual(group?.overrides, {
    providers: { google: { match: { mx_exact: ['mx.old.test', 'mx.shop.test'] } } },
  });
  assert.deepEqual(sitesWith(group?.overrides as Overrides, [vanity]), ['google']);
});

test('providers of the data that share addresses are left as they are', () => {
  const all = [site({ 'a.test': ['192.0.2.5'] }, 1, 'one'), site({ 'b.test': ['192.0.2.5'] }, 1, 'two')];
  assert.deepEqual(alikeSites(all, []), []);
});

const learned = (name: string, limit: LearnedLimit['limit'], value: number, source = ''): LearnedLimit => ({
  site: name,
  source,
  limit,
  value,
  since_ms: 0,
  until_ms: 1,
  cause: 'closed',
  reply: '',
});

test('what was learned is suggested where it is less than the files say, for sites by their hosts', () => {
  const fixed = learnedToFix(
    [
      [
        learned('google', 'max_connections', 2),
        learned('google', 'max_connections', 1, 'a2'),
        learned('mx:mx.shop.test', 'messages_per_connection', 19),
        learned('mx:long~0123', 'messages_per_connection', 9),
      ],
      [learned('google', 'max_connections', 2), learned('mx:mx.shop.test', 'messages_per_connection', 18)],
      [learned('google', 'messages_per_connection', 60)],
    ],
    [],
    [GOOGLE],
    (provider, limit) => (limit === 'max_connections' ? 5 : provider === 'google' ? 50 : 100),
  );
  assert.deepEqual(
    fixed.map(({ site: name, limit, value, now }) => [name, limit, value, now]),
    [
      ['google', 'max_connections', 3, 5],
      ['mx:long~0123', 'messages_per_connection', 9, 100],
      ['mx:mx.shop.test', 'messages_per_connection', 18, 100],
    ],
  );
  assert.deepEqual(together(fixed.map(({ overrides }) => overrides)), {
    providers: {
      google: { max_connections: 3 },
      'shop.test': { messages_per_connection: 18, match: { mx_exact: ['mx.shop.test'] } },
    },
  });
});

test('traffic counts what hosts took; processes add up', () => {
  const traffic = new SiteTraffic(() => 7);
  const result = (where: string | undefined, delivered: number, deferred = 0) =>
    ({
      site: where,
      groups: [
        ...(delivered > 0
          ? [{ seqs: Array.from({ length: delivered }, (_, i) => i), outcome: { kind: 'delivered' } }]
          : []),
        ...(deferred > 0 ? [{ seqs: [99], outcome: { kind: 'deferred' } }] : []),
      ],
    }) as never;
  traffic.take([result('a', 2), result('a', 1, 1), result(undefined, 5), result('b', 0, 1), result('c', 1)]);
  traffic.found({ site: 'a', provider: '', hosts: [{ name: 'mx.a', addresses: ['192.0.2.1'] }] });
  traffic.opened({ site: 'a', provider: '', source: '' }, 3);
  traffic.opened({ site: 'a', provider: '', source: null }, 3);
  const report = traffic.report(new Map([['a', 2]]));
  assert.deepEqual(
    report.map(({ site: name, messages, recipients, connections }) => [
      name,
      messages,
      recipients,
      connections,
    ]),
    [
      ['a', 2, 3, 5],
      ['c', 1, 1, 0],
    ],
  );
  const other = {
    ...(report[0] as SiteReport),
    hosts: [{ name: 'mx.a', addresses: ['192.0.2.2'] }],
    sinceMs: 3,
  };
  const [merged] = mergeSiteReports([report, [other]]);
  assert.deepEqual(
    [merged?.messages, merged?.connections, merged?.sinceMs, merged?.hosts],
    [4, 10, 3, [{ name: 'mx.a', addresses: ['192.0.2.1', '192.0.2.2'] }]],
  );
});
