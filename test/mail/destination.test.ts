import assert from 'node:assert/strict';
import { test } from 'node:test';
import { destinationOf } from '../../src/mail/destination.ts';

const routed = new Set(['slow.test']);

test('with a smarthost all domains without a route share one destination', () => {
  assert.equal(destinationOf('a.test', { smarthost: true, routed }), 'smarthost');
  assert.equal(destinationOf('b.test', { smarthost: true, routed }), 'smarthost');
});

test('a routed domain is its own destination, smarthost or not', () => {
  assert.equal(destinationOf('slow.test', { smarthost: true, routed }), 'slow.test');
  assert.equal(destinationOf('slow.test', { smarthost: false, routed }), 'slow.test');
});

test('by MX every domain is its own destination', () => {
  assert.equal(destinationOf('a.test', { smarthost: false, routed }), 'a.test');
});
