import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Routed, Routing } from '../../src/egress/routing.ts';

const mail = (over: Partial<Routed>): Routed => ({
  tenant: '', campaign: '', class: '', fromDomain: '', recipientDomain: '', provider: '', pool: '', ...over,
}); // biome-ignore format: short

const routing = new Routing([
  { match: { tenant: ['shop'], class: ['bulk'], provider: ['google'] }, pool: 'warm' },
  { match: { from_domain: ['*.example.com', 'example.com'] }, pool: 'brand' },
  { match: { recipient_domain: ['EXAMPLE.net'] }, pool: 'net' },
  { match: { campaign: ['spring-*'] }, pool: 'spring' },
  { match: {}, pool: 'rest' },
]);

for (const [name, over, pool, rule] of [
  ['all of a match', { tenant: 'shop', class: 'bulk', provider: 'google' }, 'warm', 0],
  ['a part of it is not enough', { tenant: 'shop', class: 'bulk', provider: 'yahoo' }, 'rest', 4],
  ['one of several patterns', { fromDomain: 'news.example.com' }, 'brand', 1],
  ['in either case', { recipientDomain: 'example.NET' }, 'net', 2],
  ['the first that matches', { fromDomain: 'example.com', recipientDomain: 'example.net' }, 'brand', 1],
  ['a pattern', { campaign: 'spring-2027' }, 'spring', 3],
  ['what the message names comes first', { pool: 'own', tenant: 'shop' }, 'own', null],
] as const)
  test(name, () => assert.deepEqual(routing.poolOf(mail(over)), { pool, rule }));

test('no rule matches: no pool', () =>
  assert.deepEqual(new Routing([]).poolOf(mail({})), { pool: '', rule: null }));
