import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BOUNCES, type Gate, type GatedMail, MessageGates } from '../../src/shaping/message-gates.ts';

const gate = (changes: Partial<Gate>): Gate => ({
  kind: 'return_path_domain',
  value: 'shop.example',
  site: 'google',
  messagesPerS: 0,
  closedUntilMs: 0,
  by: 'adaptive',
  ...changes,
});
const from = (reversePath: string): GatedMail => ({ job: { reversePath }, dkimDomains: null });
const shop: GatedMail = {
  job: { reversePath: 'news@Shop.Example', attributes: { tenant: 'shop', campaign: 'spring' } },
  dkimDomains: null,
};
const other = from('');
const ANY = { name: '', netblock: '' };

test('mail that a closed gate is about waits for it, at its site only; other mail goes', () => {
  const gates = new MessageGates<GatedMail>(() => []);
  assert.equal(gates.take('google', shop, ANY, 0), 0);
  gates.set([
    gate({ closedUntilMs: 1000 }),
    gate({ kind: 'campaign', value: 'spring', closedUntilMs: 3000, site: 'yahoo', by: 'rule r' }),
  ]);
  assert.equal(gates.take('google', shop, ANY, 0), 1000);
  assert.equal(gates.refusedBy, 'adaptive (return_path_domain shop.example at google)');
  assert.equal(gates.take('google', other, ANY, 0), 0);
  assert.equal(gates.take('yahoo', shop, ANY, 0), 3000);
  assert.equal(gates.take('apple', shop, ANY, 0), 0);
  assert.equal(gates.take('google', shop, ANY, 1000), 0);
});

test('a rate lets messages through at its distance, also over a change of it; a refusal takes nothing of other gates', () => {
  const gates = new MessageGates<GatedMail>(() => []);
  gates.set([gate({ messagesPerS: 10 }), gate({ kind: 'tenant', value: 'shop', messagesPerS: 1 })]);
  assert.equal(gates.take('google', shop, ANY, 0), 0);
  assert.equal(gates.take('google', shop, ANY, 0), 100);
  assert.equal(gates.take('google', shop, ANY, 100), 1000);
  assert.equal(gates.take('google', from('x@shop.example'), ANY, 100), 0);
  gates.set([gate({ messagesPerS: 20 })]);
  assert.equal(gates.take('google', shop, ANY, 150), 200);
  assert.equal(gates.take('google', shop, ANY, 200), 0);
  assert.equal(gates.take('google', shop, ANY, 200), 250);
});

test('ten thousand gates of one site cost a message no more than one does', () => {
  const gates = new MessageGates<GatedMail>(() => []);
  const all = Array.from({ length: 10_000 }, (_, i) =>
    gate({ value: `d${i}.example`, closedUntilMs: 1000 + i }),
  );
  const beginning = performance.now();
  for (let round = 0; round < 2; round++) gates.set(all);
  for (let i = 0; i < all.length; i++)
    assert.equal(gates.take('google', from(`a@d${i}.example`), ANY, 0), 1000 + i);
  assert.ok(performance.now() - beginning < 5000);
});

test('a block of addresses is one gate for all sources in it', () => {
  const gates = new MessageGates<GatedMail>(() => []);
  gates.set([gate({ kind: 'netblock', value: '192.0.2.0/24', messagesPerS: 1 })]);
  assert.equal(gates.take('google', shop, { name: 'a1', netblock: '192.0.2.0/24' }, 0), 0);
  assert.equal(gates.take('google', other, { name: 'a1', netblock: '192.0.2.0/24' }, 0), 1000);
  assert.equal(gates.take('google', other, { name: 'b1', netblock: '198.51.100.0/24' }, 0), 0);
  assert.equal(gates.take('google', other, ANY, 0), 0);
});

test('who signs a message is looked at once, where a gate is about that; each signature has to be let through', () => {
  let asked = 0;
  const gates = new MessageGates<GatedMail>(() => {
    asked++;
    return ['shop.example', 'esp.example'];
  });
  gates.set([gate({ closedUntilMs: 10 })]);
  const mail = from('a@other.example');
  assert.equal(gates.take('google', mail, ANY, 0), 0);
  assert.equal(asked, 0);
  gates.set([
    gate({ kind: 'dkim_domain', value: 'shop.example', messagesPerS: 10 }),
    gate({ kind: 'dkim_domain', value: 'esp.example', messagesPerS: 1 }),
  ]);
  assert.equal(gates.take('google', mail, ANY, 0), 0);
  assert.equal(gates.take('google', mail, ANY, 500), 1000);
  assert.equal(gates.refusedBy, 'adaptive (dkim_domain esp.example at google)');
  assert.equal(asked, 1);
  assert.equal(gates.take('yahoo', from(''), ANY, 0), 0);
  assert.equal(asked, 1);
});

test('mail of a gate that bounces fails at its site, whatever its kind; other mail does not', () => {
  const gates = new MessageGates<GatedMail>(() => []);
  const bounces = 'rule spring, after: 550 no';
  gates.set([gate({ kind: 'campaign', value: 'spring', bounces })]);
  assert.equal(gates.take('google', shop, ANY, 0), BOUNCES);
  assert.equal(gates.refusedBy, bounces);
  assert.equal(gates.take('google', other, ANY, 0), 0);
  assert.equal(gates.take('yahoo', shop, ANY, 0), 0);
  gates.set([gate({ kind: 'source', value: 'a1', bounces })]);
  assert.equal(gates.take('google', other, { name: 'a1', netblock: '' }, 0), BOUNCES);
  assert.equal(gates.take('google', other, { name: 'a2', netblock: '' }, 0), 0);
  gates.set([gate({ kind: 'provider', value: '', bounces })]);
  assert.equal(gates.take('google', other, ANY, 0), BOUNCES);
});

test('in a warm-up mail waits for its turn by its hint; mail without a hint does not', () => {
  const gates = new MessageGates<GatedMail>(() => []);
  const hinted = (priorityHint: number): GatedMail => ({
    job: { reversePath: '', attributes: { priorityHint } },
    dkimDomains: null,
  });
  gates.set([gate({ kind: 'source', value: 'a2', by: 'warmup', turns: { fromMs: 1000, toMs: 5000 } })]);
  const from = { name: 'a2', netblock: '' };
  assert.equal(gates.take('google', hinted(100), from, 1000), 0);
  assert.equal(gates.take('google', hinted(75), from, 1000), 2000);
  assert.equal(gates.take('google', hinted(0), from, 4999), 5000);
  assert.equal(gates.take('google', hinted(0), from, 5000), 0);
  assert.equal(gates.take('google', other, from, 1000), 0);
  assert.equal(gates.take('google', hinted(0), { name: 'a1', netblock: '' }, 1000), 0);
});
