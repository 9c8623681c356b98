import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { LearnedRecord } from '../../../src/shaping/adaptive/controller.ts';
import { readLearned } from '../../../src/shaping/adaptive/learned-file.ts';
import { KeptLines } from '../../../src/shaping/kept-lines.ts';

const dir = mkdtempSync(join(tmpdir(), 'learned-'));
after(() => rmSync(dir, { recursive: true }));
const record = (connections: number): LearnedRecord => ({
  key: 'source\t\tgoogle',
  rate: null,
  connections,
  reply: '421',
});

test('the first change is written at once, later ones ten seconds after; the last at the end', async () => {
  const path = join(dir, 'a.jsonl');
  const timers: { ms: number; fire: () => void }[] = [];
  const errors: unknown[] = [];
  let [now, connections] = [0, 1];
  const file = new KeptLines({
    path,
    lines: () => [record(connections)],
    now: () => now,
    setTimer: (ms, fire) => void timers.push({ ms, fire }),
    failed: (error) => void errors.push(error),
  });
  file.changed();
  file.changed();
  assert.deepEqual(
    timers.map(({ ms }) => ms),
    [0],
  );
  timers.shift()?.fire();
  now = 4000;
  connections = 2;
  file.changed();
  assert.deepEqual(
    timers.map(({ ms }) => ms),
    [6000],
  );
  connections = 3;
  await file.close();
  assert.deepEqual(readLearned(path), { records: [record(3)], bad: 0 });
  assert.deepEqual(errors, []);
});

test('a folder that cannot be written to is said, and tried again', async () => {
  const errors: unknown[] = [];
  const file = new KeptLines({
    path: join(dir, 'missing', 'a.jsonl'),
    lines: () => [],
    now: () => 0,
    setTimer: (_ms, fire) => fire(),
    failed: (error) => void errors.push(error),
  });
  file.changed();
  await file.close();
  assert.equal(errors.length, 2);
});

test('lines that are damaged are counted and passed over; no file is nothing learned', () => {
  const path = join(dir, 'b.jsonl');
  const rate = {
    phase: 'probing',
    per_s: 1,
    plateau_ms: 1,
    grown_ms: 0,
    first_refusal_ms: 0,
    wait_ms: 1,
    probe_ms: 0,
    block_ms: 0,
  };
  const good = { key: 'source\t\tyahoo', rate, connections: null, reply: '' };
  const lines = [
    record(2),
    good,
    { ...good, rate: { ...rate, per_s: 'x' } },
    { ...good, rate: { ...rate, phase: 'odd' } },
    7,
    null,
  ];
  writeFileSync(path, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n{"key":`);
  assert.deepEqual(readLearned(path), {
    // A file of an earlier version has no epochs.
    records: [record(2), { ...good, rate: { ...rate, epoch: 0 } }],
    bad: 5,
  });
  assert.deepEqual(readLearned(join(dir, 'none')), { records: [], bad: 0 });
  assert.ok(readFileSync(path).length > 0);
});
