/** What every scheduler must do, whatever engine it stands on. Run by one test file per engine; real time, short waits. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job } from '../../src/mail/job.ts';
import type { Scheduler } from '../../src/scheduler/scheduler.ts';
import { until } from '../support/wait.ts';
import { QueueModel } from './queue-model.ts';

export interface NodeOptions {
  maxInFlight?: number;
  enabled?: boolean;
  messagesPerS?: number;
  /** Jobs that stay with delivery until the test settles them. */
  hold?(job: Job): boolean;
}

export interface Node {
  scheduler: Scheduler;
  close(): Promise<void>;
}

export interface Engine {
  name: string;
  skip: string | false;
  shards: number;
  start?(): Promise<void>;
  stop?(): Promise<void>;
  /** A node that is ready to work; `node` is its number. */
  node(model: QueueModel, node: number, options: NodeOptions): Promise<Node>;
}

export function schedulerConformance(engine: Engine): void {
  describe(`scheduler: ${engine.name}`, { skip: engine.skip, timeout: 120_000 }, () => {
    let model: QueueModel;
    let nodes: Node[];

    before(() => engine.start?.());
    after(() => engine.stop?.());
    beforeEach(() => {
      model = new QueueModel(engine.shards);
      nodes = [];
    });
    afterEach(async () => {
      await Promise.all(nodes.map((node) => node.close()));
      assert.deepEqual(model.errors, []);
    });

    const start = async (options: NodeOptions = {}): Promise<Scheduler> => {
      const node = await engine.node(model, nodes.length, options);
      nodes.push(node);
      return node.scheduler;
    };
    const add = (scheduler: Scheduler, destination: string, inMs: number, shard = 0): string => {
      const dueMs = Date.now() + inMs;
      const queueId = model.put(destination, dueMs, shard % engine.shards);
      scheduler.waiting(destination, 1, dueMs, queueId);
      return queueId;
    };

    it('sends what is due now, and what is due later at its time', async () => {
      const scheduler = await start();
      add(scheduler, 'a.test', 0);
      add(scheduler, 'a.test', 400, 1);
      add(scheduler, 'b.test', 200, 2);
      const sinceMs = Date.now();
      await until(() => model.sent.length === 1, 'the first is sent');
      assert.equal(model.sent[0]?.job.destination, 'a.test');
      await until(() => model.sent.length === 3, 'all are sent');
      const order = model.sent.map(({ job, atMs }) => [job.destination, atMs - sinceMs] as const);
      assert.deepEqual(
        order.map(([destination]) => destination),
        ['a.test', 'b.test', 'a.test'],
      );
      const [, [, second], [, third]] = order as [[string, number], [string, number], [string, number]];
      assert.ok(second >= 195 && second < 1500, `b.test after ${second} ms`);
      assert.ok(third >= 395 && third < 2000, `a.test after ${third} ms`);
    });

    it('an earlier row that comes later does not wait for the one announced first', async () => {
      const scheduler = await start();
      add(scheduler, 'a.test', 60_000);
      await sleep(100);
      add(scheduler, 'a.test', 200);
      await until(() => model.sent.length === 1, 'the earlier one is sent', 3000);
    });

    it('a destination never holds more places than are free for the others', async () => {
      const scheduler = await start({ maxInFlight: 100, hold: () => true });
      let taken = 0;
      while (scheduler.reserve('slow.test', 1)) taken++;
      assert.equal(taken, 50);
      assert.equal(scheduler.reserve('other.test', 1), true);
    });

    it('a backlog larger than the places goes out as they come free', async () => {
      const scheduler = await start({ maxInFlight: 10 });
      for (let i = 0; i < 200; i++) add(scheduler, 'a.test', 0, i);
      await until(() => model.rows.size === 0, 'all are sent');
      assert.equal(model.sent.length, 200);
      assert.equal(new Set(model.sent.map(({ job }) => job.queueId)).size, 200);
    });

    it('a full destination leaves room for others', async () => {
      const scheduler = await start({
        maxInFlight: 20,
        hold: ({ destination }) => destination === 'slow.test',
      });
      for (let i = 0; i < 100; i++) add(scheduler, 'slow.test', 0);
      await until(() => model.sentTo('slow.test').length >= 10, 'slow.test has its share');
      for (let i = 0; i < 30; i++) add(scheduler, 'fast.test', 0);
      await until(() => model.sentTo('fast.test').length === 30, 'fast.test is sent');
      assert.ok(model.sentTo('slow.test').length < 20);
    });

    it('a deferred row goes out again at its retry time', async () => {
      const scheduler = await start({ hold: () => true });
      add(scheduler, 'a.test', 0);
      await until(() => model.sent.length === 1, 'sent once');
      const retryAtMs = Date.now() + 300;
      model.settle(scheduler, (model.sent[0] as { job: Job }).job, retryAtMs);
      await until(() => model.sent.length === 2, 'sent again');
      assert.ok((model.sent[1]?.atMs ?? 0) >= retryAtMs);
    });

    it('a job that comes back is sent again', async () => {
      const scheduler = await start({ hold: () => true });
      add(scheduler, 'a.test', 0);
      await until(() => model.sent.length === 1, 'sent once');
      model.giveBack(scheduler, (model.sent[0] as { job: Job }).job);
      await until(() => model.sent.length === 2, 'sent again');
    });

    it('a suspended destination is left alone until then, or until an operator resumes it', async () => {
      const scheduler = await start();
      scheduler.suspend('a.test', Date.now() + 400);
      scheduler.suspend('b.test', Date.now() + 60_000);
      assert.equal(scheduler.reserve('a.test', 1), false);
      const sinceMs = Date.now();
      add(scheduler, 'a.test', 0);
      add(scheduler, 'b.test', 0);
      assert.deepEqual(
        scheduler
          .stats()
          .suspended.map(({ destination }) => destination)
          .sort(),
        ['a.test', 'b.test'],
      );
      await until(() => model.sent.length === 1, 'a.test is sent');
      assert.ok((model.sent[0]?.atMs ?? 0) - sinceMs >= 390);
      scheduler.suspend('b.test', 0);
      await until(() => model.sent.length === 2, 'b.test is sent');
    });

    it('a claim that fails is made again', async () => {
      const scheduler = await start();
      model.failClaims = 2;
      add(scheduler, 'a.test', 0);
      await until(() => model.sent.length === 1, 'sent');
      assert.equal(model.errors.splice(0).length, 2);
    });

    it('finds what waited before it was started', async () => {
      model.put('a.test', Date.now() - 1000);
      model.put('b.test', Date.now() + 300, engine.shards - 1);
      const scheduler = await start();
      scheduler.rebuild(model.backlog());
      await until(() => model.sent.length === 2, 'both are sent');
    });

    it('rows that others put there are found when it is told', async () => {
      const scheduler = await start();
      model.put('a.test', Date.now(), engine.shards - 1);
      scheduler.discover(model.due());
      await until(() => model.sent.length === 1, 'sent');
    });

    it('what an operator made due goes out, what he took away is forgotten', async () => {
      const scheduler = await start();
      const queueId = add(scheduler, 'a.test', 60_000);
      add(scheduler, 'b.test', 60_000);
      (model.rows.get(queueId) as { dueMs: number }).dueMs = Date.now();
      scheduler.refresh([
        { destination: 'a.test', rows: 1, nextDueMs: Date.now() },
        { destination: 'b.test', rows: 0, nextDueMs: 0 },
      ]);
      await until(() => model.sent.length === 1, 'a.test is sent');
      assert.equal(model.sent[0]?.job.destination, 'a.test');
    });

    it('keeps the rate of a destination, from memory and from the queue, and leaves others alone', async () => {
      const scheduler = await start({ messagesPerS: 40 });
      await sleep(50);
      const sinceMs = Date.now();
      let handed = 0;
      for (let i = 0; i < 200; i++) {
        if (scheduler.reserve('a.test', 1)) handed++;
        else add(scheduler, 'a.test', 0, i);
      }
      assert.ok(handed <= 12, `${handed} handed over at once`);
      add(scheduler, 'b.test', 0);
      await until(() => model.sentTo('b.test').length === 1, 'b.test is sent', 1500);
      await sleep(2000);
      const passedS = (Date.now() - sinceMs) / 1000;
      const sent = handed + model.sentTo('a.test').length;
      assert.ok(sent <= 40 * passedS + 12, `${sent} in ${passedS} s`);
      assert.ok(sent >= 40 * passedS * 0.6, `${sent} in ${passedS} s`);
      for (const { job } of model.sentTo('a.test')) model.rows.delete(job.queueId);
    });

    it('with delivery switched off nothing is sent', async () => {
      const scheduler = await start({ enabled: false });
      assert.equal(scheduler.reserve('a.test', 1), false);
      add(scheduler, 'a.test', 0);
      await sleep(300);
      assert.equal(model.sent.length, 0);
    });

    it('once stopped, it claims nothing', async () => {
      const scheduler = await start();
      add(scheduler, 'a.test', 200);
      scheduler.stop();
      add(scheduler, 'b.test', 0);
      assert.equal(scheduler.reserve('b.test', 1), false);
      await sleep(500);
      assert.equal(model.sent.length, 0);
    });
  });
}
