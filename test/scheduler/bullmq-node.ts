/** A node of a cluster for tests: scheduler, agenda in a Redis of the test's own, and the poll of the queue. */
import { silentLog } from '../../src/base/log.ts';
import { BullmqAgenda, type BullmqAgendaOptions } from '../../src/scheduler/bullmq-agenda.ts';
import { ClusterScheduler } from '../../src/scheduler/cluster.ts';
import { DuePoll } from '../../src/scheduler/due-poll.ts';
import { DestinationRates } from '../../src/scheduler/rates.ts';
import type { RedisServer } from '../services/redis.ts';
import { until } from '../support/wait.ts';
import type { Node, NodeOptions } from './conformance.ts';
import type { QueueModel } from './queue-model.ts';

export interface BullmqNode extends Node {
  scheduler: ClusterScheduler;
  agenda: BullmqAgenda;
  rates: DestinationRates;
}

export interface BullmqNodeOptions extends NodeOptions, Partial<BullmqAgendaOptions> {
  reconcileIntervalMs?: number;
  pollIntervalMs?: number;
  /** false: it is not waited until Redis can be used. */
  waitUp?: boolean;
}

export async function bullmqNode(
  redis: RedisServer,
  model: QueueModel,
  number: number,
  options: BullmqNodeOptions,
): Promise<BullmqNode> {
  const { maxInFlight = 100, enabled = true, messagesPerS = 0, hold = () => false } = options;
  const agenda = new BullmqAgenda({
    url: redis.url,
    prefix: 'test',
    timeoutMs: 500,
    forgetMs: 10_000,
    minProcesses: 1,
    name: `node-${number}`,
    works: enabled,
    log: silentLog,
    ...options,
  });
  const rates = new DestinationRates({ perSecond: () => messagesPerS, now: Date.now, shared: agenda });
  const scheduler: ClusterScheduler = new ClusterScheduler(
    {
      ...model.ports(number, hold, () => scheduler),
      claim: async (destination, limit, shards) => model.claim(destination, limit, shards),
      backlogByShard: async () => model.backlogByShard(),
      rates,
    },
    {
      maxInFlight,
      enabled,
      isShared: true,
      onClaimError: (_, error) => model.errors.push(error),
      shardIds: model.shardIds,
      reconcileIntervalMs: options.reconcileIntervalMs ?? 60_000,
      pollIntervalMs: options.pollIntervalMs ?? 100,
      onPollFaster: () => poll.hurry(),
    },
    agenda,
  );
  const poll = new DuePoll(
    {
      due: async () => model.due(),
      discovered: (found) => scheduler.discover(found),
      onError: (error) => model.errors.push(error),
      now: Date.now,
    },
    () => scheduler.pollIntervalMs(),
  );
  scheduler.start();
  poll.start();
  if (options.waitUp !== false) await until(() => agenda.up, 'Redis is up');
  return {
    scheduler,
    agenda,
    rates,
    async close() {
      scheduler.stop();
      poll.stop();
      await scheduler.close();
    },
  };
}
