import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Routed, Routing } from '../../src/egress/routing.ts';
import { domainIn } from '../../src/shaping/message-gates.ts';

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

const decided = (one: Routing, over: Partial<Routed>, released: string[] = []): unknown => {
  const { result, value, rule } = one.decide(mail(over), released);
  return [result, value, rule];
};

for (const [name, over, pool, rule] of [
  ['all of a match', { tenant: 'shop', class: 'bulk', provider: 'google' }, 'warm', 0],
  ['a part of it is not enough', { tenant: 'shop', class: 'bulk', provider: 'yahoo' }, 'rest', 4],
  ['one of several patterns', { fromDomain: 'news.example.com' }, 'brand', 1],
  ['in either case', { recipientDomain: 'example.NET' }, 'net', 2],
  ['the first that matches', { fromDomain: 'example.com', recipientDomain: 'example.net' }, 'brand', 1],
  ['a pattern', { campaign: 'spring-2027' }, 'spring', 3],
  ['what the message names comes first', { pool: 'own', tenant: 'shop' }, 'own', null],
] as const)
  test(name, () => assert.deepEqual(decided(routing, over), ['pool', pool, rule]));

test('domains are compared as A-labels, without a dot at the end', () => {
  for (const field of ['from_domain', 'recipient_domain'] as const)
    for (const pattern of ['BÜCHER.example', 'xn--bcher-kva.example.', '*.bücher.example']) {
      const one = new Routing([{ match: { [field]: [pattern] }, pool: 'books' }]);
      const domain = pattern.startsWith('*') ? 'www.xn--bcher-kva.example' : 'xn--bcher-kva.example';
      const over = { [field === 'from_domain' ? 'fromDomain' : 'recipientDomain']: domain };
      assert.deepEqual(decided(one, over), ['pool', 'books', 0], pattern);
    }
});

test('limits by domain hold for each spelling of it', () => {
  for (const sender of ['a@bücher.example', 'a@XN--BCHER-KVA.example.', '"a@b"@xn--bcher-kva.example'])
    assert.equal(domainIn(sender), 'xn--bcher-kva.example', sender);
});

test('no rule matches: no pool', () => assert.deepEqual(decided(new Routing([]), {}), ['pool', '', null]));

const judging = new Routing([
  { match: { tenant: ['shop'] }, class: 'bulk' },
  { match: { campaign: ['bad'] }, hold: true, name: 'look at it' },
  { match: { campaign: ['dead'] }, discard: true, name: 'dead' },
  { match: { class: ['bulk'], recipient_domain: ['Partner.example'] }, route: 'Partner.example' },
  { match: { class: ['bulk'] }, next_hop: { host: 'Out.example', port: 2525 } },
  { match: { tenant: ['old'] }, route: 'smarthost' },
  { match: {}, pool: 'rest' },
]);

for (const [name, over, want] of [
  ['a rule holds', { campaign: 'bad' }, ['hold', 'look at it', 1]],
  ['a message that names its pool is held all the same', { campaign: 'bad', pool: 'own' }, ['hold', 'look at it', 1]],
  ['and goes by that pool where a rule says another', { pool: 'own' }, ['pool', 'own', null]],
  ['a rule discards', { campaign: 'dead' }, ['discard', 'dead', 2]],
  ['a class that a rule has set is what the next ones see', { tenant: 'shop' }, ['route', 'rule-hop:out.example:2525', 4]],
  ['a domain of delivery.routes', { class: 'bulk', recipientDomain: 'partner.example' }, ['route', 'partner.example', 3]],
  ['the smarthost', { tenant: 'old' }, ['route', 'smarthost', 5]],
] as const) // biome-ignore format: one case a line reads as the table it is.
  test(name, () => assert.deepEqual(decided(judging, over), want));

test('what was released from a rule goes on to the next ones', () =>
  assert.deepEqual(decided(judging, { campaign: 'bad' }, ['other', 'look at it']), ['pool', 'rest', 6]));

test('the class and the rules that made it are told', () => {
  const { class: kind, classRules } = judging.decide(mail({ tenant: 'shop', class: 'urgent' }));
  assert.deepEqual([kind, classRules], ['bulk', [0]]);
});
