import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SourceChanges } from '../../src/egress/source-changes.ts';
import type { SourceFinding } from '../../src/egress/source-checks.ts';

const standing = (present: boolean, ...findings: [SourceFinding['check'], boolean | null][]) => ({
  source: 'a1',
  checkedAtMs: 1,
  present,
  findings: findings.map(([check, ok]) => ({ check, ok, detail: `${check} is ${ok}` })),
});

const said = (changes: ReturnType<SourceChanges['of']>): string[] =>
  changes.map(({ check, ok, state }) => `${check} ${ok} ${state}`);

test('what is good from the start is no change; what is wrong is one, once', () => {
  const changes = new SourceChanges();
  assert.deepEqual(said(changes.of(standing(true, ['ptr', true], ['spf', false]))), ['spf false usable']);
  assert.deepEqual(said(changes.of(standing(true, ['ptr', true], ['spf', false]))), []);
});

test('no answer is no change, and what comes after it counts against what was known', () => {
  const changes = new SourceChanges();
  changes.of(standing(true, ['dnsbl', false]));
  assert.deepEqual(said(changes.of(standing(true, ['dnsbl', null]))), []);
  assert.deepEqual(said(changes.of(standing(true, ['dnsbl', false]))), []);
  assert.deepEqual(said(changes.of(standing(true, ['dnsbl', true]))), ['dnsbl true usable']);
});

test('a source is suspended and comes back', () => {
  const changes = new SourceChanges();
  assert.deepEqual(said(changes.of(standing(false))), ['address false suspended']);
  assert.deepEqual(said(changes.of(standing(true, ['address', true]))), ['address true usable']);
});

test('a source that the config has anew begins anew', () => {
  const changes = new SourceChanges();
  changes.of(standing(true, ['spf', false]));
  changes.keep(['b1']);
  assert.deepEqual(said(changes.of(standing(true, ['spf', false]))), ['spf false usable']);
});
