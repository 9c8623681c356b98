/** Limits learned of how connections end: when there is one, what it is, and when it is over. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  LEARNED_FOR_MS,
  type LearnedChange,
  type LearnedLimit,
  LearnedLimits,
} from '../../../src/shaping/learned/learned-limits.ts';
import { readLearnedLimits } from '../../../src/shaping/learned/learned-limits-file.ts';
import type { LimitSign } from '../../../src/shaping/limit-key.ts';

const KEY = { site: 'mx:mx.test', provider: '', source: '' };
const DAY_MS = 86_400_000;

function setUp(ceilings: { messages_per_connection?: number; max_connections?: number } = {}) {
  const changes: LearnedChange[] = [];
  const learned = new LearnedLimits({
    ceiling: (_, limit) => ceilings[limit],
    changed: (change) => void changes.push(change),
  });
  const closed = (count: number, sign: Partial<LimitSign> = {}): LimitSign => ({
    key: KEY,
    of: 'messages',
    count,
    isSaid: false,
    reply: '',
    begunMs: 0,
    ...sign,
  });
  const value = (limit: LearnedLimit['limit'] = 'messages_per_connection') =>
    learned.of(KEY.site, '', limit)?.value ?? null;
  return { learned, changes, closed, value };
}

describe('messages over one connection', () => {
  test('three sessions closed after as many say the limit; a reply that says it does so at once', () => {
    const { learned, closed, value, changes } = setUp({ messages_per_connection: 100 });
    learned.saw(closed(20), 1, 1);
    learned.saw(closed(20), 2, 2);
    assert.equal(value(), null);
    learned.saw(closed(20), 3, 3);
    assert.equal(value(), 19);
    learned.saw(closed(9, { isSaid: true, reply: '421 too many messages' }), 4, 4);
    assert.equal(value(), 8);
    assert.deepEqual(
      changes.map(({ before, now }) => [before, now?.value, now?.cause, now?.reply]),
      [
        [null, 19, 'closed', ''],
        [19, 8, 'per_connection_limit', '421 too many messages'],
      ],
    );
  });

  test('numbers that are all different say nothing, nor does one that the data allow no more of', () => {
    const { learned, closed, value } = setUp({ messages_per_connection: 19 });
    for (let count = 1; count < 200; count++) learned.saw(closed(count), count, count);
    for (let i = 0; i < 3; i++) learned.saw(closed(20), 1000 + i, 1000 + i);
    assert.equal(value(), null);
  });

  test('what an earlier connection carried does not begin the day anew', () => {
    const { learned, closed, changes } = setUp();
    learned.saw(closed(20, { isSaid: true }), 0, 0);
    for (let i = 0; i < 5; i++) learned.saw(closed(20, { isSaid: true }), 5000, 5000);
    assert.equal(changes.length, 1);
  });

  test('random sessions with a peer that allows N: N − 1 is learned and no other number, and holds for 24 h', () => {
    const session = fc.record({
      /** How many messages there are for it; where it is no more than N, we end it. */
      messages: fc.integer({ min: 0, max: 60 }),
      pauseMs: fc.integer({ min: 0, max: DAY_MS / 50 }),
      /** It breaks off for another reason, which says nothing. */
      breaks: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.boolean(),
        fc.array(session, { maxLength: 80 }),
        (allowed, isSaid, sessions) => {
          const { learned, closed, value } = setUp({ messages_per_connection: 50 });
          let [nowMs, untilMs, seen] = [1_000_000, 0, 0];
          for (const { messages, pauseMs, breaks } of sessions) {
            nowMs += pauseMs;
            learned.tick(nowMs);
            const holds = nowMs < untilMs;
            assert.equal(value(), holds ? Math.max(1, allowed - 1) : null);
            const most = Math.min(messages, value() ?? 50);
            if (breaks || most <= allowed - (allowed === 1 && holds ? 0 : 1)) continue;
            // The peer takes no more than it allows.
            learned.saw(closed(allowed, { isSaid }), nowMs, nowMs);
            seen++;
            if (isSaid || seen === 3) {
              untilMs = nowMs + LEARNED_FOR_MS;
              seen = 0;
            }
          }
          learned.tick(untilMs);
          assert.equal(value(), null);
          assert.equal(learned.size, 0);
        },
      ),
    );
  });
});

describe('connections at once', () => {
  const refused = (count: number, begunMs: number, isSaid = false): LimitSign => ({
    key: KEY,
    of: 'connections',
    count,
    isSaid,
    reply: isSaid ? '421 too many connections' : '',
    begunMs,
  });

  test('the most that were served when a further one was refused, in three rounds', () => {
    const { learned, value, changes } = setUp({ max_connections: 20 });
    // All of one round were begun before the first was refused.
    for (let i = 0; i < 10; i++) learned.saw(refused(3 + (i % 3), 100), 0, 200 + i);
    learned.saw(refused(4, 300), 0, 400);
    assert.equal(value('max_connections'), null);
    learned.saw(refused(4, 500, true), 0, 600);
    assert.equal(value('max_connections'), 5);
    assert.deepEqual(changes[0]?.now?.cause, 'connection_limit');
  });

  test('never more than the data allow', () => {
    const { learned, value } = setUp({ max_connections: 5 });
    for (let i = 0; i < 9; i++) learned.saw(refused(5, i * 100), 0, i * 100 + 50);
    assert.equal(value('max_connections'), null);
  });
});

test('what was learned goes on after a restart until its day is over; a clock set back makes it no longer', () => {
  const before = setUp();
  before.learned.saw(before.closed(20, { isSaid: true }), 5000, 5000);
  const records = [...before.learned.all()];
  const folder = mkdtempSync(join(tmpdir(), 'learned-'));
  try {
    const path = join(folder, 'learned.jsonl');
    const bad = ['', 'x', '{}', 'null', JSON.stringify({ ...records[0], value: 0 })];
    writeFileSync(path, [...records.map((one) => JSON.stringify(one)), ...bad].join('\n'));
    const read = readLearnedLimits(path);
    assert.deepEqual(read, { records, bad: 4 });
    const after = setUp();
    after.learned.restore(read.records, 5000 + LEARNED_FOR_MS);
    assert.equal(after.value(), null);
    after.learned.restore(read.records, 1000);
    assert.equal(after.value(), 19);
    after.learned.tick(1000 + LEARNED_FOR_MS - 1);
    assert.equal(after.value(), 19);
    after.learned.tick(1000 + LEARNED_FOR_MS);
    assert.equal(after.value(), null);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('however many sites there are, no more is kept than has room: what ends first is forgotten', () => {
  const { learned, closed, changes } = setUp();
  for (let i = 0; i < 10_001; i++)
    learned.saw(closed(20, { isSaid: true, key: { ...KEY, site: `mx:${i}.test` } }), i, i);
  assert.equal(learned.size, 10_000);
  assert.equal(learned.of('mx:0.test', '', 'messages_per_connection'), null);
  assert.equal(changes.at(-2)?.now, null);
});
