import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Gate, MessageGates } from '../../src/shaping/message-gates.ts';

const gate = (changes: Partial<Gate>): Gate => ({
  kind: 'return_path_domain',
  value: 'shop.example',
  site: 'google',
  messagesPerS: 0,
  closedUntilMs: 0,
  by: 'adaptive',
  ...changes,
});
const shop = { reversePath: 'news@Shop.Example', attributes: { tenant: 'shop', campaign: 'spring' } };
const other = { reversePath: '' };

test('mail that a closed gate is about waits for it, at its site only; other mail goes', () => {
  const gates = new MessageGates();
  assert.equal(gates.take('google', shop, 0), 0);
  gates.set([
    gate({ closedUntilMs: 1000 }),
    gate({ kind: 'campaign', value: 'spring', closedUntilMs: 3000, site: 'yahoo', by: 'rule r' }),
  ]);
  assert.equal(gates.take('google', shop, 0), 1000);
  assert.equal(gates.refusedBy, 'adaptive (return_path_domain shop.example at google)');
  assert.equal(gates.take('google', other, 0), 0);
  assert.equal(gates.take('yahoo', shop, 0), 3000);
  assert.equal(gates.take('apple', shop, 0), 0);
  assert.equal(gates.take('google', shop, 1000), 0);
});

test('a rate lets messages through at its distance, also over a change of it; a refusal takes nothing of other gates', () => {
  const gates = new MessageGates();
  gates.set([gate({ messagesPerS: 10 }), gate({ kind: 'tenant', value: 'shop', messagesPerS: 1 })]);
  assert.equal(gates.take('google', shop, 0), 0);
  assert.equal(gates.take('google', shop, 0), 100);
  assert.equal(gates.take('google', shop, 100), 1000);
  assert.equal(gates.take('google', { reversePath: 'x@shop.example' }, 100), 0);
  gates.set([gate({ messagesPerS: 20 })]);
  assert.equal(gates.take('google', shop, 150), 200);
  assert.equal(gates.take('google', shop, 200), 0);
  assert.equal(gates.take('google', shop, 200), 250);
});

test('ten thousand gates of one site cost a message no more than one does', () => {
  const gates = new MessageGates();
  const all = Array.from({ length: 10_000 }, (_, i) =>
    gate({ value: `d${i}.example`, closedUntilMs: 1000 + i }),
  );
  const beginning = performance.now();
  for (let round = 0; round < 2; round++) gates.set(all);
  for (let i = 0; i < all.length; i++)
    assert.equal(gates.take('google', { reversePath: `a@d${i}.example` }, 0), 1000 + i);
  assert.ok(performance.now() - beginning < 5000);
});
