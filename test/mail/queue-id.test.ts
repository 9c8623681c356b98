import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { isQueueId, originOf, QueueIds, queueIdTimeMs } from '../../src/mail/queue-id.ts';

test('ids are unique and ascending within one millisecond and over many', () => {
  let nowMs = 1_800_000_000_000;
  const ids = new QueueIds(7, 0, () => nowMs);
  let last = '';
  for (let i = 0; i < 100_000; i++) {
    if (i % 1000 === 0) nowMs += i % 3;
    const id = ids.next();
    assert.ok(id > last, `${id} after ${last}`);
    assert.ok(isQueueId(id));
    last = id;
  }
});

test('a clock that steps back repeats no id', () => {
  let nowMs = 1_800_000_000_000;
  const ids = new QueueIds(1, 0, () => nowMs);
  const before = Array.from({ length: 100 }, () => ids.next());
  nowMs -= 3_600_000;
  const after = Array.from({ length: 100 }, () => ids.next());
  assert.equal(new Set([...before, ...after]).size, 200);
  assert.ok((after[0] as string) > (before[99] as string));
});

test('a generator starts after the newest stored id although the clock is behind it', () => {
  const stored = new QueueIds(1, 0, () => 1_800_000_000_000).next();
  const ids = new QueueIds(1, queueIdTimeMs(stored) + 1, () => 1_700_000_000_000);
  assert.ok(ids.next() > stored);
});

test('generators of different origin never meet', () => {
  const now = () => 1_800_000_000_000;
  const a = new QueueIds(1, 0, now);
  const b = new QueueIds(2, 0, now);
  const made = new Set<string>();
  for (let i = 0; i < 40_000; i++) made.add(a.next()).add(b.next());
  assert.equal(made.size, 80_000);
});

test('an id tells its time', () => {
  assert.equal(queueIdTimeMs(new QueueIds(3, 0, () => 1_812_345_678_901).next()), 1_812_345_678_901);
});

test('what is not an id is told apart', () => {
  for (const text of ['', 'abc', 'ilou00000000000', '0123456789abcdefg', '../../etc/passwd'])
    assert.equal(isQueueId(text), false, text);
});

test('as many threads as the config allows, and the main thread, stay below the origins of the next process', () => {
  const most = (key: 'session_threads' | 'delivery_threads'): number => {
    let count = 1;
    while (configSchema.safeParse({ [key]: count + 1 }).success) count++;
    return count;
  };
  const mainThread = most('session_threads') + most('delivery_threads');
  assert.equal(originOf(0, mainThread) + 1, originOf(1, 0));
});
