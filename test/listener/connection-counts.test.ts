import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import { type ConnectionCounts, LocalCounts, SharedCounts } from '../../src/listener/connection-counts.ts';
import { createSharedMemory, mapSharedMemory } from '../../src/native.ts';
import { Accounts, accountsBytes } from '../../src/policy/accounts.ts';

const LIMITS = { total: 4, perAddress: 2 };

/** Each over a mapping of its own, as processes have. */
function shared(processes: number): { counts: SharedCounts[]; memory: ArrayBuffer } {
  const bytes = accountsBytes(processes);
  const fd = createSharedMemory(bytes);
  Accounts.initialize(mapSharedMemory(fd, bytes), 0, 12_345, processes);
  const counts = Array.from(
    { length: processes },
    (_, process) => new SharedCounts(new Accounts(mapSharedMemory(fd, bytes), 0, processes, process)),
  );
  const memory = mapSharedMemory(fd, bytes);
  closeSync(fd);
  return { counts, memory };
}

const kinds: [string, () => ConnectionCounts][] = [
  ['of one process', () => new LocalCounts()],
  ['shared', () => shared(1).counts[0] as SharedCounts],
];
for (const [kind, create] of kinds) {
  test(`counts ${kind}: both limits hold until a connection leaves; a refusal takes no place`, () => {
    const counts = create();
    assert.equal(counts.enter('192.0.2.1', LIMITS), null);
    assert.equal(counts.enter('192.0.2.1', LIMITS), null);
    assert.equal(counts.enter('192.0.2.1', LIMITS), 'address');
    assert.equal(counts.enter('192.0.2.2', LIMITS), null);
    assert.equal(counts.enter('192.0.2.3', LIMITS), null);
    assert.equal(counts.enter('192.0.2.4', LIMITS), 'total');
    assert.equal(counts.open, 4);
    counts.leave('192.0.2.1');
    counts.leave('192.0.2.99');
    assert.equal(counts.open, 3);
    assert.equal(counts.enter('192.0.2.1', LIMITS), null);
    assert.equal(counts.enter('192.0.2.1', { total: 9, perAddress: 2 }), 'address');
  });

  test(`counts ${kind}: Unix sockets have the total as their only limit`, () => {
    const counts = create();
    for (let i = 0; i < 4; i++) assert.equal(counts.enter('unix', LIMITS), null);
    assert.equal(counts.enter('unix', LIMITS), 'total');
  });
}

test('limits hold over processes, and what a dead process held is given back', () => {
  const { counts, memory } = shared(3);
  const [a, b, c] = counts as [SharedCounts, SharedCounts, SharedCounts];
  assert.equal(a.enter('192.0.2.1', LIMITS), null);
  assert.equal(b.enter('192.0.2.1', LIMITS), null);
  assert.equal(c.enter('192.0.2.1', LIMITS), 'address');
  assert.equal(c.enter('192.0.2.2', LIMITS), null);
  assert.equal(b.enter('192.0.2.2', LIMITS), null);
  assert.equal(a.enter('192.0.2.3', LIMITS), 'total');
  Accounts.clear(memory, 0, 1);
  assert.equal(c.enter('192.0.2.1', LIMITS), null);
  assert.equal(a.enter('192.0.2.1', LIMITS), 'address');
  assert.equal(c.enter('192.0.2.4', LIMITS), null);
  assert.equal(a.enter('192.0.2.5', LIMITS), 'total');
});

test('20,000 addresses: never counted too low, too high by one for less than one in a hundred', () => {
  const { counts } = shared(2);
  const [a, b] = counts as [SharedCounts, SharedCounts];
  const address = (i: number): string => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
  const many = { total: 1_000_000, perAddress: 1_000_000 };
  for (let i = 0; i < 20_000; i++) assert.equal((i % 2 ? a : b).enter(address(i), many), null);
  let tooHigh = 0;
  for (let i = 0; i < 20_000; i++) {
    // Every address has one connection: a second is one too many for a limit of 1, and fits a limit of 2.
    assert.equal(a.enter(address(i), { total: 1_000_000, perAddress: 1 }), 'address');
    if (a.enter(address(i), { total: 1_000_000, perAddress: 2 }) !== null) tooHigh++;
    else a.leave(address(i));
  }
  assert.ok(tooHigh < 200, `${tooHigh} of 20,000`);
  for (let i = 0; i < 20_000; i++) (i % 2 ? a : b).leave(address(i));
  assert.equal(a.enter('10.0.0.0', { total: 1, perAddress: 1 }), null, 'all places were given back');
});
