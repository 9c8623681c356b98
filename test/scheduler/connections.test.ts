/** Connections to a destination that all nodes share, leased from a Redis of the test's own. */

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { steadyMs } from '../../src/base/steady.ts';
import { ConnectionShares } from '../../src/scheduler/connections.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { until } from '../support/wait.ts';
import { bullmqNode } from './bullmq-node.ts';
import { QueueModel } from './queue-model.ts';

const options = { skip: skipWithoutRedis(), timeout: 60_000 };
const LIMIT = 10;

/** A process whose thread opens what it may at once, and closes a connection in its time. */
class Thread {
  wanted = 0;
  open = 0;
  granted = 0;
  readonly shares: ConnectionShares;

  constructor(shared: ConstructorParameters<typeof ConnectionShares>[0]['shared'], limit = LIMIT) {
    this.shares = new ConnectionShares({
      limit,
      shared,
      grant: ([grant]) => {
        this.granted = grant?.connections ?? 0;
        this.work();
      },
      now: steadyMs,
      setTimer(atMs, fire) {
        const timer = setTimeout(fire, Math.max(0, atMs - steadyMs()));
        return { cancel: () => clearTimeout(timer) };
      },
    });
  }

  want(wanted: number): void {
    this.wanted = wanted;
    this.work();
  }

  work(): void {
    const may = Math.min(this.wanted, this.granted);
    if (this.open < may) this.open = may;
    this.shares.demand([{ destination: 'a.test', wanted: this.wanted, open: this.open }]);
    if (this.open > may)
      setTimeout(() => {
        this.open--;
        this.work();
      }, 30);
  }
}

async function start(t: TestContext, count: number, limit = LIMIT) {
  const redis = await RedisServer.start();
  t.after(() => redis.close());
  const model = new QueueModel();
  const threads: Thread[] = [];
  const nodes = await Promise.all(Array.from({ length: count }, (_, i) => bullmqNode(redis, model, i, {})));
  for (const node of nodes) {
    const thread = new Thread(node.agenda, limit);
    threads.push(thread);
    t.after(async () => {
      thread.shares.stop();
      await node.close();
    });
  }
  let most = 0;
  const sum = (): number => threads.reduce((all, { open }) => all + open, 0);
  const timer = setInterval(() => {
    most = Math.max(most, sum());
  }, 1);
  t.after(() => clearInterval(timer));
  await sleep(1100); // all know of each other
  return { redis, nodes, threads, sum, most: () => most };
}

test(
  'one alone may have all; when others come each gets his part, and never are there more',
  options,
  async (t) => {
    const { threads, sum, most } = await start(t, 3);
    const [first, second, third] = threads as [Thread, Thread, Thread];
    first.want(50);
    await until(() => first.open === LIMIT, 'the first has all', 1000);
    second.want(50);
    await until(() => second.open === 5 && first.open === 5, 'half each', 4000);
    third.want(2);
    await until(() => third.open === 2, 'the third has the little it wants', 4000);
    await until(() => sum() === LIMIT || sum() === LIMIT - 2, 'all are used');
    second.want(0);
    third.want(0);
    await until(() => first.open === LIMIT, 'what is given back is used', 4000);
    assert.ok(most() <= LIMIT, `${most()} at once`);
  },
);

test('without Redis each has its part; after it the leases go on', options, async (t) => {
  const { redis, nodes, threads, sum, most } = await start(t, 2);
  const [first, second] = threads as [Thread, Thread];
  first.want(50);
  await until(() => first.open === LIMIT, 'the first has all', 1000);
  await redis.stop();
  await until(() => nodes.every(({ agenda }) => !agenda.up), 'Redis is given up');
  second.want(50);
  await until(() => first.open === 5, 'the first comes down to its part', 4000);
  await until(() => second.open === 5, 'the second gets up to its part', 8000);
  assert.ok(sum() <= LIMIT);
  await redis.start();
  await until(() => nodes.every(({ agenda }) => agenda.up), 'Redis is back', 8000);
  second.want(0);
  await until(() => first.open === LIMIT, 'the first has all again', 5000);
  // The second had one to go on with while the first had not yet come down.
  assert.ok(most() <= LIMIT + 1, `${most()} at once`);
});

test('who asked for nothing while Redis was there waits, when it is lost, until the others came down', async () => {
  let nowMs = 0;
  const timers: { atMs: number; fire: () => void }[] = [];
  const shared = {
    up: true,
    sinceMs: 0,
    members: () => ({ all: 2, silent: 0 }),
    leaseParts: () => Promise.reject(new Error('nobody asks')),
  };
  let granted = 0;
  const shares = new ConnectionShares({
    limit: LIMIT,
    shared,
    grant: ([grant]) => {
      granted = grant?.connections ?? 0;
    },
    now: () => nowMs,
    setTimer(atMs, fire) {
      timers.push({ atMs, fire });
      return { cancel() {} };
    },
  });
  const at = async (untilMs: number): Promise<void> => {
    while ((timers[0]?.atMs ?? untilMs) < untilMs) {
      const timer = timers.shift();
      nowMs = timer?.atMs as number;
      timer?.fire();
      await new Promise(setImmediate);
    }
    nowMs = untilMs;
  };
  await at(60_000);
  Object.assign(shared, { up: false, sinceMs: nowMs });
  shares.demand([{ destination: 'a.test', wanted: 50, open: 0 }]);
  await at(64_900);
  assert.equal(granted, 1, 'one to go on with');
  await at(67_000);
  assert.equal(granted, 5, 'its part');
});

test('with more processes than connections each has one', options, async (t) => {
  const { threads } = await start(t, 3, 2);
  for (const thread of threads) thread.want(5);
  await until(() => threads.every(({ open }) => open === 1), 'one each', 6000);
});

test('connections of a process that died are free after a while', options, async (t) => {
  const { redis, nodes, threads } = await start(t, 2);
  const [first, second] = threads as [Thread, Thread];
  first.want(50);
  await until(() => first.open === LIMIT, 'the first has all', 1000);
  first.shares.stop();
  second.want(50);
  await until(() => second.open >= 5, 'the second has its part at least', 15_000);
  // One that leaves gives them back at once.
  await nodes[1]?.close();
  const left = await redis.ask((client) => client.hlen('test:connections:a.test'));
  assert.equal(left, 0, `${left} holders are left`);
});
