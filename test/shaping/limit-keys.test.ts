/** The main thread's side of limits: slots, caps, shares, and counts that outlive a restart. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LimitKeys } from '../../src/shaping/limit-keys.ts';
import { createLimitTable, LimitSlot, SLOTS } from '../../src/shaping/limit-table.ts';
import type { Limits, Totals } from '../../src/shaping/limits.ts';
import { readCounts, writeCounts } from '../../src/shaping/saved-counts.ts';
import { ALL } from '../../src/shaping/slot-limits.ts';

const WALL_MS = Date.UTC(2026, 11, 1);

function world(limits: Limits, total: Totals = {}) {
  const table = createLimitTable();
  const state = { nowMs: 5_000_000, share: 1, full: 0 };
  const google = {
    name: 'google',
    match: { mx_suffix: ['google.com'], mx_exact: [], domain: [] },
    limits,
    total,
  };
  const data = { rollup: 'mx_set' as const, limits: {}, total: {}, providers: [google] };
  const keys = new LimitKeys(data, {
    table,
    now: () => state.nowMs,
    share: () => ({ part: state.share, connections: null, isLease: false }),
    full: () => void state.full++,
  });
  const ask = (thread: number, site = 'google', source: string | null = '') => {
    const provider = site === 'google' ? 'google' : '';
    const [answer] = keys.take(thread, {
      ask: [{ site, provider, source }],
      free: [],
      sites: [],
      signs: [],
      hosts: [],
    });
    return new LimitSlot(table, answer?.slot ?? -1);
  };
  return { keys, state, ask, data, table };
}

test('threads get one slot for one key, and keep what they hold of it until all have given it up', () => {
  const { keys, ask, state } = world({ max_connections: 2, messages_per_h: 3600 });
  const first = ask(0);
  assert.equal(ask(1).index, first.index);
  assert.notEqual(ask(0, 'google', 'a1').index, first.index);
  assert.equal(first.takeMessage(state.nowMs), 0);
  keys.take(0, { ask: [], free: ['google', 'google a1'], sites: [], signs: [], hosts: [] });
  keys.sweep();
  assert.equal(keys.size, 1, 'the other thread uses it');
  keys.take(1, { ask: [], free: ['google'], sites: [], signs: [], hosts: [] });
  keys.sweep();
  assert.equal(keys.size, 1, 'its count has not run down');
  state.nowMs += 60_000;
  keys.sweep();
  assert.equal(keys.size, 0);
  assert.equal(ask(0, 'mx:other').takeConnection(state.nowMs), 0);
});

test('a source with values of its own has those', () => {
  const { keys, ask, data } = world({ max_connections: 8, messages_per_connection: 50 });
  const [slot, total] = [ask(0, 'google', 'a1'), ask(0, 'google', null)];
  assert.equal(slot.maxConnections, 8);
  const [google] = data.providers;
  const sources = new Map([['a1', { max_connections: 2, messages_per_connection: 5 }]]);
  keys.reconfigure({ ...data, providers: [{ ...(google as object), sources } as never] });
  assert.deepEqual([slot.maxConnections, slot.messagesPerConnection], [2, 5]);
  assert.equal(ask(0, 'google', 'a2').maxConnections, 8);
  assert.deepEqual(keys.limitsOf({ site: 'google', provider: 'google', source: 'a1' }).max_connections, 2);
  assert.ok(total.maxConnections > 8);
});

test('since when a key is closed, whoever prolongs it', () => {
  const { keys, state } = world({});
  const key = { site: 'google', provider: 'google', source: '' };
  const begunMs = state.nowMs;
  keys.close('google', 'adaptive', begunMs + 5000);
  state.nowMs += 1000;
  keys.close('google', 'adaptive', begunMs + 9000);
  assert.deepEqual(keys.standing(key).closed, [['adaptive', begunMs + 9000, begunMs]]);
  state.nowMs += 10_000;
  keys.close('google', 'adaptive', state.nowMs + 5000);
  assert.deepEqual(keys.standing(key).closed, [['adaptive', state.nowMs + 5000, state.nowMs]]);
});

test('the least of data and caps holds, and the share of it that this process has', () => {
  const { keys, ask, data, state } = world({ max_connections: 8, messages_per_connection: 50 });
  const slot = ask(0);
  keys.cap('google', 'learned', { max_connections: 4, messages_per_connection: 60, messages_per_s: 10 });
  assert.deepEqual([slot.maxConnections, slot.messagesPerConnection], [4, 50]);
  assert.deepEqual(keys.outlook('google'), { messages: 10, atMs: 0 });
  keys.cap('google', 'adaptive', { max_connections: 6 });
  assert.equal(slot.maxConnections, 4);
  keys.cap('google', 'learned', null);
  assert.equal(slot.maxConnections, 6);
  assert.equal(keys.outlook('google').messages, Number.POSITIVE_INFINITY);
  state.share = 1 / 4;
  keys.reconfigure(data);
  assert.equal(slot.maxConnections, 2, 'caps are of this process alone');
  state.share = 1 / 100;
  keys.reconfigure(data);
  assert.equal(slot.maxConnections, 1, 'nobody stands still');
});

test('parts of a rate add up to no more than the rate', () => {
  for (const processes of [2, 3, 7]) {
    let all = 0;
    for (let i = 0; i < processes; i++) {
      const { ask, state, keys, data } = world({ messages_per_h: 100 });
      state.share = 1 / processes;
      keys.reconfigure(data);
      const slot = ask(0);
      const endMs = state.nowMs + 3_600_000;
      for (let nowMs = state.nowMs; nowMs < endMs; nowMs += 1000) if (slot.takeMessage(nowMs) === 0) all++;
    }
    // Each may begin with one more than its part, where that is no whole number.
    assert.ok(all <= 100 + processes && all >= 90, `${processes}: ${all}`);
  }
});

test('the outlook of a site is that of its sources together, and of the site in all', () => {
  const { ask, keys, state } = world({ messages_per_s: 4 }, { messages_per_h: 60 });
  ask(0, 'google', 'a1');
  ask(0, 'google', 'a2');
  assert.equal(keys.outlook('google').messages, 10);
  const total = ask(0, 'google', null);
  assert.equal(keys.outlook('google').messages, 1);
  total.takeMessage(state.nowMs);
  assert.deepEqual(keys.outlook('google'), { messages: 0, atMs: state.nowMs + 60_000 });
  assert.equal(keys.outlook('mx:unknown').messages, Number.POSITIVE_INFINITY);
});

test('a full table is said, and answered without a slot', () => {
  const { keys, state } = world({});
  const ask = Array.from({ length: SLOTS + 1 }, (_, i) => ({ site: `mx:${i}`, provider: '', source: '' }));
  const slots = keys.take(0, { ask, free: [], sites: [], signs: [], hosts: [] });
  assert.equal(slots.at(-1)?.slot, -1);
  assert.equal(state.full, 1);
});

test('counts by hour and day go on after a restart, also for keys that come up later', () => {
  const before = world({ messages_per_h: 60, messages_per_day: 240 });
  assert.equal(before.ask(0).takeMessage(before.state.nowMs), 0);
  const text = writeCounts(before.keys, before.state.nowMs, WALL_MS);
  // The machine started anew meanwhile, so steady time begins elsewhere; twenty seconds have passed.
  const restarted = (file: string, wallMs: number) => {
    const after = world({ messages_per_h: 60, messages_per_day: 240 });
    after.state.nowMs = 1000;
    after.keys.restore(readCounts(file, 1000, wallMs));
    return after;
  };
  const after = restarted(text, WALL_MS + 20_000);
  assert.equal(writeCounts(after.keys, 1000, WALL_MS + 20_000), text, 'a key that has not come up is kept');
  assert.equal(after.ask(0).takeMessage(1000), 41_000);
  assert.equal(
    restarted(text, WALL_MS + 60_000)
      .ask(0)
      .takeMessage(1000),
    0,
  );
  // The clock was set back by a year: the count is full at most, and no longer than its hour.
  const late = restarted(text, WALL_MS - 365 * 86_400_000)
    .ask(0)
    .takeMessage(1000);
  assert.ok(late > 1000 && late <= 1000 + 86_400_000, `${late}`);
  for (const damaged of [
    '',
    'null',
    '[1]',
    '{"google":{"messages_per_h":"x"}}',
    '{"google":null}',
    text.slice(0, 20),
  ])
    assert.equal(restarted(damaged, WALL_MS).ask(0).takeMessage(1000), 0, damaged);
});

test('a site whose source is closed is open where its mail may leave by another source', () => {
  const data = { rollup: 'mx_set' as const, limits: { messages_per_s: 5 }, total: {}, providers: [] };
  const others = ({ source }: { source: string | null }) => (source === 'warm' ? ['spare'] : []);
  const table = createLimitTable();
  const keys = new LimitKeys(data, { table, now: () => 0, share: () => ALL, full: () => {}, others });
  const begin = (source: string) =>
    keys.take(0, {
      ask: [{ site: 'mx:a', provider: '', source }],
      free: [],
      sites: [],
      signs: [],
      hosts: [],
    });
  begin('warm');
  keys.close('mx:a warm', 'warmup', 60_000);
  assert.deepEqual(keys.outlook('mx:a').messages, Number.POSITIVE_INFINITY);
  begin('spare');
  assert.ok(Number.isFinite(keys.outlook('mx:a').messages), 'as many as that source may send');
  keys.close('mx:a spare', 'warmup', 50_000);
  assert.deepEqual(keys.outlook('mx:a'), { messages: 0, atMs: 50_000 });
});
