/** Parts of the limits of sites, leased by two processes from a Redis of the test's own, for mail to one sink. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLog } from '../../src/base/log.ts';
import { steadyMs } from '../../src/base/steady.ts';
import type { Config } from '../../src/config/schema.ts';
import type { ProcessPlace } from '../../src/relay/place.ts';
import { RelayShaping } from '../../src/relay/shaping.ts';
import type { LaneLimits } from '../../src/shaping/lane-limits.ts';
import { LimitKeys } from '../../src/shaping/limit-keys.ts';
import { type LeaseDemand, LimitLeases } from '../../src/shaping/limit-leases.ts';
import { createLimitTable, LimitSlot, WHEN_FREED } from '../../src/shaping/limit-table.ts';
import type { Limits } from '../../src/shaping/limits.ts';
import { SHIPPED_SHAPING } from '../../src/shaping/shaping-file.ts';
import { ThreadLimits } from '../../src/shaping/thread-limits.ts';
import { bullmqNode } from '../scheduler/bullmq-node.ts';
import { QueueModel } from '../scheduler/queue-model.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { until } from '../support/wait.ts';

const CONNECTIONS = 6;
const PER_S = 80;
const SITE = { key: 'mx:mx.sink.test', provider: '' };

/** What both send to: counts connections, and notes when each message comes. */
class Sink {
  open = 0;
  most = 0;
  readonly messages: number[] = [];

  connection(by: 1 | -1): void {
    this.open += by;
    this.most = Math.max(this.most, this.open);
  }

  /** Most messages of a second that began after then. */
  perSecond(fromMs: number): number {
    const times = this.messages.filter((atMs) => atMs >= fromMs);
    let [best, first] = [0, 0];
    for (const [i, atMs] of times.entries()) {
      while (atMs - (times[first] as number) >= 1000) first++;
      best = Math.max(best, i - first + 1);
    }
    return best;
  }
}

/** A relay process with one delivery thread, whose lane has work for ever, for as many connections as `wanted`. */
class Process {
  wanted = 0;
  open = 0;
  sent = 0;
  #waits = false;
  readonly #sink: Sink;
  readonly #timer = setInterval(() => this.#work(), 2);
  #lane: LaneLimits | null = null;

  constructor(shaping: RelayShaping, sink: Sink) {
    this.#sink = sink;
    const thread: ThreadLimits = new ThreadLimits(shaping.data, {
      table: shaping.table,
      post: (news) => thread.slots(shaping.take(0, news)),
      later: (work) => void setImmediate(work),
    });
    void thread.enter(SITE, '').then((lane) => {
      this.#lane = lane;
    });
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #work(): void {
    const lane = this.#lane;
    if (lane === null) return;
    const nowMs = steadyMs();
    while (this.open > this.wanted || (this.open > 0 && lane.leaves()))
      this.#opened(-1, () => lane.freeConnection());
    while (this.open < this.wanted && lane.takeConnection(nowMs) === 0) this.#opened(1);
    for (let i = 0; i < this.open && lane.takeMessage(nowMs) === 0; i++) {
      this.sent++;
      this.#sink.messages.push(nowMs);
    }
    const waits = this.open < this.wanted;
    if (waits !== this.#waits) lane.waits(waits ? 1 : -1);
    this.#waits = waits;
  }

  #opened(by: 1 | -1, also = () => {}): void {
    this.open += by;
    this.#sink.connection(by);
    also();
  }
}

async function start(t: TestContext) {
  const redis = await RedisServer.start();
  const folder = mkdtempSync(join(tmpdir(), 'limit-leases-'));
  const overrides = join(folder, 'shaping.json');
  writeFileSync(
    overrides,
    JSON.stringify({ default: { max_connections: CONNECTIONS, messages_per_s: PER_S } }),
  );
  t.after(async () => {
    await redis.close();
    rmSync(folder, { recursive: true });
  });
  const model = new QueueModel();
  const nodes = await Promise.all([0, 1].map((i) => bullmqNode(redis, model, i, {})));
  for (const node of nodes) t.after(() => node.close());
  await until(() => nodes.every(({ agenda }) => agenda.members().all === 2), 'both know of each other');
  const sink = new Sink();
  const processes = nodes.map(({ agenda }, i) => {
    const shaping = new RelayShaping({
      config: {
        data_dir: folder,
        shaping: { file: SHIPPED_SHAPING, overrides_file: overrides, rollup: 'mx_set' },
        warmup: [],
        egress: { pools: [] as Config['egress']['pools'] },
      } as unknown as Config,
      place: { process: i, processes: 1 } as ProcessPlace,
      log: silentLog,
      begins() {},
      saw() {},
      belongs() {},
      agenda,
    });
    shaping.start();
    const process = new Process(shaping, sink);
    t.after(() => {
      process.stop();
      shaping.stop();
    });
    return process;
  });
  const [first, second] = processes as [Process, Process];
  return { redis, nodes, sink, first, second };
}

test('two processes keep to a limit together, also without Redis and when it is back; one alone may have all of it', {
  skip: skipWithoutRedis(),
  timeout: 60_000,
}, async (t) => {
  const { redis, nodes, sink, first, second } = await start(t);
  first.wanted = CONNECTIONS;
  await until(() => first.open === CONNECTIONS, 'the first has all', 2000);
  const aloneMs = steadyMs();
  await sleep(1000);
  const alone = sink.messages.filter((atMs) => atMs >= aloneMs && atMs < aloneMs + 1000).length;
  assert.ok(alone > 0.6 * PER_S, `${alone} messages in a second`);
  second.wanted = CONNECTIONS;
  await until(() => first.open === 3 && second.open === 3, 'half each', 4000);
  const before = second.sent;
  await until(() => second.sent > before + PER_S / 2, 'the second has its part of the rate', 3000);
  assert.ok(sink.most <= CONNECTIONS, `${sink.most} connections`);
  assert.ok(sink.perSecond(0) <= PER_S + 2, `${sink.perSecond(0)} messages in a second`);

  await redis.stop();
  await until(() => nodes.every(({ agenda }) => !agenda.up), 'Redis is given up');
  const lostMs = steadyMs();
  const sent = [first.sent, second.sent] as const;
  await until(() => first.sent > sent[0] + 30 && second.sent > sent[1] + 30, 'both go on', 3000);
  assert.ok(sink.most <= CONNECTIONS, `${sink.most} connections without Redis`);
  assert.ok(
    sink.perSecond(lostMs) <= PER_S + 2,
    `${sink.perSecond(lostMs)} messages in a second without Redis`,
  );

  await redis.start();
  await until(() => nodes.every(({ agenda }) => agenda.up), 'Redis is back', 8000);
  first.wanted = 0;
  await until(() => second.open === CONNECTIONS, 'what one gives back the other has', 6000);
  assert.ok(sink.most <= CONNECTIONS, `${sink.most} connections`);
  assert.ok(sink.perSecond(0) <= PER_S + 2, `${sink.perSecond(0)} messages in a second`);
});

function world(limits: Limits, answer: (demand: LeaseDemand) => number = ({ wanted }) => wanted) {
  const state = { nowMs: 1_000_000, asked: [] as LeaseDemand[], answer };
  const table = createLimitTable();
  const now = () => state.nowMs;
  const data = { rollup: 'mx_set' as const, limits, total: {}, providers: [] };
  const leases: LimitLeases = new LimitLeases({
    now,
    sharers: () => 2,
    limitsOf: (key) => keys.limitsOf(key),
    rewrite: (name) => keys.rewrite(name),
    holds: (name, slot) => keys.entry(name)?.slot === slot,
    async lease(demands) {
      state.asked.push(...demands);
      return demands.map((demand) => state.answer(demand));
    },
  });
  const share = leases.share.bind(leases);
  const begins = leases.begins.bind(leases);
  const keys = new LimitKeys(data, { table, now, share, full() {}, begins });
  const [slotOf] = keys.take(0, {
    ask: [{ site: 'a', provider: '', source: '' }],
    free: [],
    sites: [],
    signs: [],
    hosts: [],
  });
  const slot = new LimitSlot(table, slotOf?.slot ?? -1);
  const look = async (ms = 0): Promise<LeaseDemand[]> => {
    state.nowMs += ms;
    state.asked = [];
    await leases.look();
    return state.asked;
  };
  return { state, slot, keys, look };
}

test('no connection is opened before the first part is there, and none once it was given back', async () => {
  const { state, slot, look } = world({ max_connections: 10, messages_per_s: 100 });
  assert.equal(slot.takeConnection(state.nowMs), WHEN_FREED);
  await look();
  assert.deepEqual(
    state.asked.map(({ name, limit, wanted, held }) => [name, limit, wanted, held]),
    [
      ['limit:a:connections', 10, 10, 0],
      ['limit:a:rates', 1000, 1000, 0],
    ],
  );
  assert.equal(slot.takeConnection(state.nowMs), 0);
  slot.freeConnection();
  for (let i = 0; i < 20; i++) await look(1000);
  assert.equal(slot.takeConnection(state.nowMs), WHEN_FREED);
  assert.deepEqual(await look(1000), [], 'nothing is asked for');
  slot.waits(1);
  await look(50);
  assert.equal(slot.takeConnection(state.nowMs), 0);
});

test('what is not used becomes less before it is told; who gets less tells at once what he holds', async () => {
  const { state, slot, look } = world({ max_connections: 8 });
  await look();
  assert.equal(slot.takeConnection(state.nowMs), 0);
  const [asked] = await look(1000);
  assert.deepEqual([asked?.wanted, asked?.held, slot.maxConnections], [6, 6, 6]);
  slot.waits(1);
  state.answer = () => 3;
  await look(1000);
  assert.equal(slot.maxConnections, 3);
  assert.equal((await look(50))[0]?.held, 3);
});

test('a key without limits asks for nothing; limits that come with a reload hold', async () => {
  const { state, slot, keys, look } = world({});
  assert.equal(slot.takeConnection(state.nowMs), 0);
  assert.deepEqual(await look(), []);
  keys.reconfigure({ rollup: 'mx_set', limits: { max_connections: 2 }, total: {}, providers: [] });
  assert.equal((await look(1000)).length, 1);
  assert.equal(slot.maxConnections, 2);
});
