import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { bullmqNode } from './bullmq-node.ts';
import { schedulerConformance } from './conformance.ts';

for (const shards of [1, 3]) {
  let redis: RedisServer;
  schedulerConformance({
    name: `bullmq, ${shards} ${shards === 1 ? 'shard' : 'shards'}`,
    skip: skipWithoutRedis(),
    shards,
    async start() {
      redis = await RedisServer.start();
    },
    stop: () => redis.close(),
    async node(model, number, options) {
      // Nothing of the test before.
      if (number === 0) await redis.ask((client) => client.flushall());
      return bullmqNode(redis, model, number, options);
    },
  });
}
