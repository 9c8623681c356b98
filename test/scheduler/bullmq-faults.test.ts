/** The scheduler over Redis when Redis fails, and several nodes that share one. */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { certificate } from '../services/certificate.ts';
import { RedisServer, type RedisServerOptions, skipWithoutRedis } from '../services/redis.ts';
import { until } from '../support/wait.ts';
import { type BullmqNode, type BullmqNodeOptions, bullmqNode } from './bullmq-node.ts';
import { QueueModel } from './queue-model.ts';

const skip = skipWithoutRedis();
const options = { skip, timeout: 60_000 };

async function startRedis(t: TestContext, redisOptions: RedisServerOptions = {}): Promise<RedisServer> {
  const redis = await RedisServer.start(redisOptions);
  t.after(() => redis.close());
  return redis;
}

async function startNode(
  t: TestContext,
  redis: RedisServer,
  model: QueueModel,
  nodeOptions: BullmqNodeOptions = {},
  number = 0,
): Promise<BullmqNode> {
  const node = await bullmqNode(redis, model, number, nodeOptions);
  t.after(() => node.close());
  return node;
}

function add({ scheduler }: BullmqNode, model: QueueModel, destination: string, inMs: number): void {
  const dueMs = Date.now() + inMs;
  scheduler.waiting(destination, 1, dueMs, model.put(destination, dueMs));
}

/** Lengths of BullMQ's lists and sets. */
function jobs(redis: RedisServer): Promise<{ wait: number; active: number; delayed: number }> {
  return redis.ask(async (client) => ({
    wait: await client.llen('test:due:wait'),
    active: await client.llen('test:due:active'),
    delayed: await client.zcard('test:due:delayed'),
  }));
}

/** Connections to it, without that which asks. */
async function connections(redis: RedisServer): Promise<number> {
  const list = await redis.ask((client) => client.client('LIST'));
  return String(list).trim().split('\n').length - 1;
}

// They mostly wait, each for a Redis of its own.
describe('scheduling over Redis', { concurrency: 4 }, () => {
  test(
    'while Redis is stopped due rows are found in the queue; when it is back, empty, all is announced again',
    options,
    async (t) => {
      const redis = await startRedis(t);
      const model = new QueueModel();
      const node = await startNode(t, redis, model);
      add(node, model, 'before.test', 300);
      add(node, model, 'after.test', 6000);
      await redis.stop();
      await until(() => !node.agenda.up, 'Redis is given up', 1500);
      await until(() => model.sentTo('before.test').length === 1, 'sent without Redis', 1500);
      add(node, model, 'during.test', 200);
      await until(() => model.sentTo('during.test').length === 1, 'a new row is sent without Redis', 1500);
      assert.equal(node.scheduler.stats().cluster?.up, false);
      await redis.start();
      await until(() => node.agenda.up, 'Redis is used again', 6000);
      await sleep(200);
      const asked = model.dueQuestions;
      await until(() => model.sentTo('after.test').length === 1, 'sent by the job written anew', 8000);
      assert.equal(model.dueQuestions, asked, 'the queue is not polled any more');
      assert.equal(node.scheduler.stats().cluster?.outages, 1);
    },
  );

  test('a Redis that is not there when a node starts is used once it is', options, async (t) => {
    const redis = await startRedis(t);
    await redis.stop();
    const model = new QueueModel();
    const node = await startNode(t, redis, model, { waitUp: false });
    add(node, model, 'a.test', 0);
    add(node, model, 'b.test', 300);
    await until(() => model.sent.length === 2, 'both sent without Redis', 2000);
    add(node, model, 'c.test', 5000);
    await redis.start();
    await until(() => node.agenda.up, 'Redis is used', 6000);
    assert.equal((await jobs(redis)).delayed, 1);
    await until(() => model.sent.length === 3, 'sent', 6000);
  });

  test('broken connections are made anew, and none is left over', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel();
    const node = await startNode(t, redis, model);
    for (let outage = 1; outage <= 3; outage++) {
      await redis.ask((client) => client.call('CLIENT', 'KILL', 'TYPE', 'normal'));
      await until(() => node.agenda.stats().outages === outage, 'noticed', 2000);
      await until(() => node.agenda.up, 'used again', 8000);
    }
    add(node, model, 'a.test', 100);
    await until(() => model.sent.length === 1, 'sent');
    assert.equal(await connections(redis), 3);
    await node.close();
    assert.equal(await connections(redis), 0);
  });

  test('FLUSHALL is noticed, and what it took is written down again', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel();
    const node = await startNode(t, redis, model, { pollIntervalMs: 60_000 });
    add(node, model, 'a.test', 4000);
    await sleep(100);
    assert.equal((await jobs(redis)).delayed, 1);
    await redis.ask((client) => client.flushall());
    await until(() => node.scheduler.stats().cluster?.outages === 1, 'noticed', 2500);
    await until(() => node.agenda.up, 'used again', 3000);
    assert.equal((await jobs(redis)).delayed, 1);
    await until(() => model.sent.length === 1, 'sent by its job', 6000);
  });

  test('a Redis that stands still holds up nothing', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel();
    const node = await startNode(t, redis, model);
    add(node, model, 'a.test', 200);
    await sleep(50);
    redis.pause();
    const sinceMs = Date.now();
    add(node, model, 'b.test', 0);
    await until(() => model.sentTo('b.test').length === 1, 'what is due now needs no Redis', 300);
    await until(() => model.sent.length === 2, 'the rest is found in the queue', 4000);
    assert.ok(Date.now() - sinceMs < 6000);
    redis.resume();
    await until(() => node.agenda.up, 'used again', 6000);
    add(node, model, 'c.test', 300);
    await until(() => model.sent.length === 3, 'sent', 2000);
  });

  test('a Redis whose memory is full is given up until there is room', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel();
    const node = await startNode(t, redis, model);
    add(node, model, 'later.test', 3000);
    await sleep(100);
    await redis.fill();
    add(node, model, 'a.test', 200);
    await until(() => !node.agenda.up, 'given up', 2500);
    assert.match(node.agenda.stats().lastError, /OOM|maxmemory/);
    await until(() => model.sentTo('a.test').length === 1, 'sent without Redis', 1500);
    await until(() => model.sentTo('later.test').length === 1, 'sent without Redis at its time', 4000);
    await redis.unfill();
    await until(() => node.agenda.up, 'used again', 8000);
  });

  test('rows nobody announced are found while Redis is up, if more slowly', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel();
    await startNode(t, redis, model, { reconcileIntervalMs: 300 });
    await sleep(200); // the last look from before
    model.put('lost.test', Date.now());
    await until(() => model.sent.length === 1, 'sent', 2000);
  });

  test('several nodes share the work of one destination, and no row goes out twice', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel(2);
    // Each settles slowly, so that none can take all.
    const waiting: (() => void)[] = [];
    const hold = (): boolean => true;
    const nodes: BullmqNode[] = [];
    for (let i = 0; i < 3; i++) nodes.push(await startNode(t, redis, model, { maxInFlight: 20, hold }, i));
    const dueMs = Date.now() + 300;
    const [first] = nodes as [BullmqNode];
    // Long enough that those who were not given a job hear that help is wanted.
    for (let i = 0; i < 900; i++)
      first.scheduler.waiting('a.test', 1, dueMs, model.put('a.test', dueMs, i % 2));
    let settled = 0;
    const timer = setInterval(() => {
      for (const { job, node } of model.sent.slice(settled, settled + 6)) {
        settled++;
        model.settle((nodes[node] as BullmqNode).scheduler, job);
      }
    }, 50);
    t.after(() => clearInterval(timer));
    await until(() => model.rows.size === 0, 'all are sent', 20_000);
    assert.equal(waiting.length, 0);
    assert.equal(model.sent.length, 900);
    const byNode = [0, 1, 2].map((number) => model.sent.filter(({ node }) => node === number).length);
    for (const count of byNode) assert.ok(count >= 30, `sent by each node: ${byNode}`);
  });

  test('announcements of many rows by many nodes are few jobs', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel();
    const nodes = [await startNode(t, redis, model), await startNode(t, redis, model, {}, 1)];
    for (let i = 0; i < 2000; i++)
      for (const node of nodes) add(node, model, `d${i % 10}.test`, 60_000 + ((i * 7919) % 30_000));
    await sleep(300);
    const { delayed } = await jobs(redis);
    assert.ok(delayed >= 10 && delayed <= 10 * 2 * 8, `${delayed} jobs for 10 destinations`);
  });

  test(
    'a node that leaves finishes its jobs, and leaves what waited with it to others',
    options,
    async (t) => {
      const redis = await startRedis(t);
      const model = new QueueModel();
      const hold = (): boolean => true;
      const leaving = await startNode(t, redis, model, { maxInFlight: 4, hold }, 0);
      const dueMs = Date.now();
      for (let i = 0; i < 40; i++) leaving.scheduler.waiting('a.test', 1, dueMs, model.put('a.test', dueMs));
      await until(() => model.sent.length > 0, 'some are with delivery');
      for (let i = 0; i < 30; i++) add(leaving, model, `d${i}.test`, 250);
      await sleep(400);
      await leaving.close();
      const { active, wait, delayed } = await jobs(redis);
      assert.equal(active, 0, 'no job is left behind');
      assert.ok(wait + delayed > 0, 'what is due is announced');
      assert.equal(await redis.ask((client) => client.zcard('test:processes')), 0);
      const before = model.sent.length;
      await startNode(t, redis, model, {}, 1);
      await until(() => model.sent.length - before === 70 - before, 'the other node sends the rest', 6000);
    },
  );

  test('the rate of a destination holds over the nodes, also when Redis is gone', options, async (t) => {
    const redis = await startRedis(t);
    const model = new QueueModel();
    const nodes = await Promise.all(
      [0, 1, 2].map((number) => startNode(t, redis, model, { messagesPerS: 60, minProcesses: 3 }, number)),
    );
    await sleep(1100); // all know of each other
    const sent: number[] = [];
    let done = false;
    const work = (async () => {
      for (; !done; await sleep(2))
        for (const { scheduler } of nodes)
          for (let i = 0; i < 5; i++)
            if (scheduler.reserve('a.test', 1)) {
              sent.push(Date.now());
              scheduler.settled({ destination: 'a.test' } as never, null);
            }
    })();
    await sleep(3000);
    const shared = sent.length;
    assert.ok(shared >= 60 * 3 * 0.7 && shared <= 60 * 3 + 60, `${shared} messages in 3 s at 60/s`);
    const commands = await redis.ask((client) => client.info('commandstats'));
    const leases = Number(/cmdstat_hmget:calls=(\d+)/.exec(commands)?.[1]);
    assert.ok(leases <= 400, `${leases} leases`);
    await redis.stop();
    await until(() => nodes.every(({ agenda }) => !agenda.up), 'Redis is given up', 2000);
    sent.length = 0;
    await sleep(3000);
    done = true;
    await work;
    assert.ok(
      sent.length >= 60 * 3 * 0.7 && sent.length <= 60 * 3 + 60,
      `${sent.length} messages in 3 s without Redis`,
    );
  });

  test('Redis over TLS, with a password; a wrong one is said', options, async (t) => {
    const tls = certificate();
    t.after(() => tls.remove());
    const redis = await startRedis(t, { tls, password: 'a pass/word' });
    const model = new QueueModel();
    const node = await startNode(t, redis, model, { password: 'a pass/word', tlsCaFile: tls.cert });
    add(node, model, 'a.test', 200);
    await until(() => model.sent.length === 1, 'sent');
    const wrong = await startNode(
      t,
      redis,
      model,
      { password: 'wrong', tlsCaFile: tls.cert, waitUp: false },
      1,
    );
    const stranger = await startNode(t, redis, model, { password: 'a pass/word', waitUp: false }, 2);
    await until(() => /WRONGPASS|NOAUTH/.test(wrong.agenda.stats().lastError), 'the password is refused');
    await until(() => /certificate/i.test(stranger.agenda.stats().lastError), 'the certificate is refused');
    assert.equal(wrong.agenda.up, false);
    assert.equal(stranger.agenda.up, false);
  });
});
