/** When Redis returns, and when it is there while the queue is not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../../src/base/log.ts';
import { BullmqAgenda } from '../../src/scheduler/bullmq-agenda.ts';
import { ConnectionShares } from '../../src/scheduler/connections.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { until } from '../support/wait.ts';

test('who comes first after Redis lost all takes his part, not what others still hold', async () => {
  let nowMs = 100_000;
  let timers: { atMs: number; fire: () => void }[] = [];
  const asked: number[] = [];
  const shared = {
    up: true,
    sinceMs: 0,
    members: () => ({ all: 2, silent: 0 }),
    async leaseParts(demands: readonly { wanted: number }[]) {
      asked.push(demands[0]?.wanted ?? 0);
      return demands.map(({ wanted }) => wanted);
    },
  };
  const shares = new ConnectionShares({
    limit: 10,
    shared,
    grant() {},
    now: () => nowMs,
    setTimer(atMs, fire) {
      const timer = { atMs, fire };
      timers.push(timer);
      const cancel = (): void => {
        timers = timers.filter((one) => one !== timer);
      };
      return { cancel };
    },
  });
  const look = async (): Promise<void> => {
    const due = timers;
    timers = [];
    nowMs += 1000;
    for (const { fire } of due) fire();
    await new Promise((resolve) => setImmediate(resolve));
  };
  shares.demand([{ destination: 'a.test', wanted: 10, open: 0 }]);
  await look();
  shared.up = false;
  await look();
  Object.assign(shared, { up: true, sinceMs: nowMs, members: () => ({ all: 1, silent: 0 }) });
  await look();
  await look();
  nowMs += 5000;
  await look();
  assert.deepEqual(asked, [10, 5, 5, 10]);
  shares.stop();
});

test('a queue that cannot be read is not taken for a Redis that fails', {
  skip: skipWithoutRedis(),
}, async (t) => {
  const redis = await RedisServer.start();
  t.after(() => redis.close());
  const lost: string[] = [];
  const agenda = new BullmqAgenda({
    url: redis.url,
    prefix: 'test',
    timeoutMs: 2000,
    forgetMs: 10_000,
    minProcesses: 1,
    name: 'node',
    works: true,
    log: { ...silentLog, warn: (event) => void lost.push(event) },
  });
  t.after(() => agenda.close());
  let asked = 0;
  const due: string[] = [];
  agenda.start({
    due: async (destination) => void due.push(destination),
    async backlog() {
      if (++asked < 3) throw new Error('connect ECONNREFUSED of a shard');
      return [{ destination: 'a.test', shard: 0, atMs: Date.now() }];
    },
    changed() {},
  });
  await until(() => due.length > 0, 'what waits is written down once the queue can be read', 10_000);
  assert.deepEqual(lost, []);
  assert.equal(agenda.stats().outages, 0);
});
