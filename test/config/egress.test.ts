/** What is refused about `egress`, and in which words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkEgress } from '../../src/config/egress-rules.ts';
import { egress } from '../../src/config/egress-schema.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';

const a1 = { name: 'a1', address: '192.0.2.11' };
const sources = [a1, { name: 'b1' }];
const members = [{ source: 'a1' }];
const warm = { name: 'warm', members };

function said(
  config: object,
  family = 'any',
  beside: object = {},
): { problems: string[]; warnings: string[] } {
  const problems: string[] = [];
  const warnings: string[] = [];
  const into = (list: string[]) => (path: readonly (string | number)[], message: string, mend?: string) =>
    void list.push(`${path.slice(1).join('.')} ${message}${mend === undefined ? '' : `; ${mend}`}`);
  const routes = { 'partner.example': { host: 'mx.partner.example', port: 25 } };
  const delivery = { ip_family: family, routes } as unknown as Config['delivery'];
  const { warmup, rules, attributes, tenants } = configSchema.parse(beside);
  const given = { egress: egress.parse(config), delivery, warmup, rules, attributes, tenants };
  checkEgress(given, into(problems), into(warnings));
  return { problems, warnings };
}

for (const [name, config, problem] of [
  ['no address', { sources: [{ name: 'a', address: 'host' }] }, 'sources.0.address must be an IPv4 or IPv6 address, is "host"'],
  ['a name twice', { sources: [a1, a1] }, 'sources.1.name is the name of egress.sources[0] too'],
  ['a proxy with a wrong URL', { sources: [{ name: 'a', proxy: 'http://192.0.2.1' }] }, 'sources.0.proxy is no URL `socks5://USER:PASSWORD@ADDRESS:PORT` or `haproxy://ADDRESS:PORT`'],
  ['HAProxy without address', { sources: [{ name: 'a', proxy: 'haproxy://192.0.2.1:9' }] }, 'sources.0.address is missing: HAProxy leaves from the address it is told'],
  ['lists without addresses', { sources: [{ name: 'a' }], dnsbls: ['bl.example'] }, 'dnsbls has no effect: no source has an address to look up'],
  ['a mistyped source', { sources, pools: [{ name: 'p', members: [{ source: 'a2' }] }] }, 'pools.0.members.0.source names no source of egress.sources: "a2"; did you mean "a1"?'],
  ['a member twice', { sources, pools: [{ name: 'p', members: [...members, ...members] }] }, 'pools.0.members.1.source is a member already; give it a larger weight instead'],
  ['a mistyped fallback', { sources, pools: [warm, { name: 'p', members, fallback_pool: 'wram' }] }, 'pools.1.fallback_pool names no pool of egress.pools: "wram"; did you mean "warm"?'],
  ['a circle of fallbacks', { sources, pools: [{ ...warm, fallback_pool: 'warm' }] }, 'pools.0.fallback_pool leads back to this pool'],
  ['a mistyped pool in a rule', { sources, pools: [warm], routing: [{ match: {}, pool: 'warn' }] }, 'routing.0.pool names no pool of egress.pools: "warn"; did you mean "warm"?'],
  ['a rule behind one for all', { sources, pools: [warm], routing: [{ match: {}, pool: 'warm' }, { match: { tenant: 'a' }, pool: 'warm' }] }, 'routing.1 is never reached: egress.routing[0] matches all that it could'],
  ['a rule behind a wider one', { sources, pools: [warm], routing: [{ match: { tenant: ['a', 'b'] }, pool: 'warm' }, { match: { tenant: 'a', class: 'bulk' }, pool: 'warm' }] }, 'routing.1 is never reached: egress.routing[0] matches all that it could'],
  ['a rule without a result', { routing: [{ match: {} }] }, 'routing.0 must have exactly one of pool, route, next_hop, class, hold, discard, has none'],
  ['a rule with two results', { routing: [{ name: 'x', match: {}, hold: true, discard: true }] }, 'routing.0 must have exactly one of pool, route, next_hop, class, hold, discard, has hold, discard'],
  ['a rule that holds without a name', { routing: [{ match: {}, hold: true }] }, 'routing.0.name is missing: a rule with hold is named by what it did'],
  ['a rule’s name twice', { routing: [{ name: 'x', match: { tenant: 'a' }, hold: true }, { name: 'x', match: {}, discard: true }] }, 'routing.1.name is the name of egress.routing[0] too'],
  ['a mistyped route', { routing: [{ match: {}, route: 'partner.exmaple' }] }, 'routing.0.route names no next hop: "partner.exmaple"; did you mean "partner.example"?'],
  ['a smarthost that there is not', { routing: [{ match: {}, route: 'smarthost' }] }, 'routing.0.route names no next hop: "smarthost"; write one of delivery.routes, or smarthost where there is one'],
  ['implicit TLS and none', { routing: [{ match: {}, next_hop: { host: 'a.example', tls: { implicit: true, mode: 'none' } } }] }, 'routing.0.next_hop.tls.implicit means TLS, and "mode" none'],
  ['a host with two kinds of TLS', { routing: [{ match: { tenant: 'a' }, next_hop: { host: 'a.example' } }, { match: {}, next_hop: { host: 'A.example', tls: { mode: 'verify' } } }] }, 'routing.1.next_hop is the host and port of egress.routing[0].next_hop, with another "tls"'],
  ['a rule behind one that holds all', { routing: [{ name: 'x', match: {}, hold: true }, { match: {}, class: 'bulk' }] }, 'routing.1 is never reached: egress.routing[0] matches all that it could'],
  ['a rule for a class that an earlier one has changed', { routing: [{ match: {}, class: 'bulk' }, { name: 'x', match: { class: 'urgent' }, hold: true }] }, 'routing.1 is never reached: egress.routing[0] makes all that it could match bulk'],
] as const) // biome-ignore format: one case a line reads as the table it is.
  test(name, () => assert.deepEqual(said(config).problems, [problem]));

test('a rule is reached by mail to which another one gives its class', () => {
  const routing = [
    { name: 'x', match: { class: 'bulk' }, hold: true },
    { match: { tenant: 'a' }, class: 'bulk' },
    { name: 'y', match: { class: 'bulk' }, discard: true },
  ];
  assert.deepEqual(said({ routing }), { problems: [], warnings: [] });
});

test('an address of the other family than delivery.ip_family', () =>
  assert.deepEqual(said({ sources: [a1] }, 'ipv6').problems, [
    'sources.0.address must be an address of delivery.ip_family (ipv6)',
  ]));

test('what has no effect is a warning', () => {
  const { problems, warnings } = said({ sources, pools: [{ ...warm, retry_other_source: true }] });
  assert.deepEqual(problems, []);
  assert.deepEqual(warnings, [
    'pools.0.retry_other_source has no effect: the pool has one source',
    'pools are taken by messages alone that name one: egress.routing has no rule',
  ]);
});

test('rules that only look alike are all reached', () => {
  const routing = [
    { match: { tenant: 'a', class: 'bulk' }, pool: 'warm' },
    { match: { tenant: 'a' }, pool: 'warm' },
    { match: { class: 'bulk' }, pool: 'warm' },
  ];
  assert.deepEqual(said({ sources, pools: [warm], routing }), { problems: [], warnings: [] });
});

test('keys and their defaults', () => {
  assert.deepEqual(egress.parse({}), {
    sources: [],
    pools: [],
    routing: [],
    check_interval_s: 3600,
    dnsbls: [],
  });
  assert.equal(egress.safeParse({ check_interval_s: 59 }).success, false);
});

test('sources that warm-ups and rules name', () => {
  const rule = { name: 'r', threshold: { count: 1 }, action: 'alert' };
  const beside = {
    warmup: [{ source: '' }, { source: 'b1', providers: ['google'] }, { source: 'c1' }],
    rules: [{ ...rule, match: { sources: ['*', 'a?', 'b2'] } }],
  };
  assert.deepEqual(said({ sources, pools: [], routing: [] }, 'any', beside), {
    problems: [
      '2.source names no source of egress.sources: "c1"; did you mean "a1"?',
      '0.match.sources.2 names no source of egress.sources: "b2"; did you mean "b1"?',
    ],
    warnings: [],
  });
});

test('pools that messages get by rules on attributes and by their tenant', () => {
  const beside = {
    attributes: { rules: [{ set: { pool: 'wram' } }, { set: { pool: 'warm' } }, { set: { class: 'bulk' } }] },
    tenants: [{ name: 'a', pool: 'warm' }, { name: 'b', pool: 'x' }, { name: 'c' }],
  };
  const routing = [{ match: {}, pool: 'warm' }];
  assert.deepEqual(said({ sources, pools: [warm], routing }, 'any', beside), {
    problems: [],
    warnings: [
      'rules.0.set.pool names no pool of egress.pools: "wram"; did you mean "warm"?',
      '1.pool names no pool of egress.pools: "x"; write one of egress.pools',
    ],
  });
  assert.deepEqual(said({}, 'any', beside), { problems: [], warnings: [] });
});

test('pools that warm-ups and rules send mail to', () => {
  const rule = { name: 'r', threshold: { count: 1 }, action: 'move_pool' };
  const beside = {
    warmup: [
      { source: 'b1', overflow_pool: 'warm' },
      { source: 'a1', overflow_pool: 'warm' },
      { source: '', overflow_pool: 'wram' },
    ],
    rules: [{ ...rule, pool: 'warn' }],
  };
  const routing = [{ match: {}, pool: 'warm' }];
  assert.deepEqual(said({ sources, pools: [warm], routing }, 'any', beside).problems, [
    '2.overflow_pool names no pool of egress.pools: "wram"; did you mean "warm"?',
    '1.overflow_pool has the source itself as a member: a1',
    '0.pool names no pool of egress.pools: "warn"; did you mean "warm"?',
  ]);
});
