/** The agenda over a Redis Cluster, and over what sentinels name: both for real, with a failover. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../../src/base/log.ts';
import { BullmqAgenda } from '../../src/scheduler/bullmq-agenda.ts';
import type { RedisServer } from '../services/redis.ts';
import { skipWithoutRedis } from '../services/redis.ts';
import { startCluster, startSentinels, type Topology } from '../services/redis-topologies.ts';
import { until } from '../support/wait.ts';

const options = { skip: skipWithoutRedis() };

function agendaOn(topology: 'cluster' | 'sentinel', { nodes }: Topology) {
  const due: string[] = [];
  const agenda = new BullmqAgenda({
    url: 'redis://unused',
    topology,
    nodes,
    masterName: 'mymaster',
    prefix: 'protorelay',
    timeoutMs: 2000,
    forgetMs: 10_000,
    minProcesses: 1,
    name: 'node',
    works: true,
    log: silentLog,
  });
  agenda.start({
    due: async (destination) => void due.push(destination),
    backlog: async () => [],
    changed() {},
  });
  return { agenda, due };
}

/** Everything that nodes share goes over it. */
async function works({ agenda, due }: ReturnType<typeof agendaOn>, destination: string): Promise<void> {
  await until(() => agenda.up, 'Redis is up', 20_000);
  agenda.announce({ destination, shard: 0, atMs: Date.now() + 10 });
  await until(() => due.includes(destination), `${destination} is due`, 20_000);
  assert.equal(await agenda.leaseTokens(destination, 10, 5, 3), 3);
  assert.deepEqual(await agenda.leaseConnections([{ destination, open: 0, wanted: 2 }], 5), [2]);
}

test('a cluster of three masters: the default prefix works, all keys lie in one slot', options, async (t) => {
  const topology = await startCluster();
  t.after(() => topology.close());
  const node = agendaOn('cluster', topology);
  t.after(() => node.agenda.close());
  for (const destination of ['a.test', 'b.test', 'c.test']) await works(node, destination);
  const keys = await Promise.all(topology.servers.map((server) => server.ask((client) => client.keys('*'))));
  assert.equal(keys.filter((some) => some.length > 0).length, 1);
  assert.ok(keys.flat().every((key) => key.startsWith('{protorelay}:')));
});

test('sentinels: after the master is gone the one they promote is used', options, async (t) => {
  const topology = await startSentinels();
  t.after(() => topology.close());
  const node = agendaOn('sentinel', topology);
  t.after(() => node.agenda.close());
  await works(node, 'before.test');
  await (topology.servers[0] as RedisServer).stop();
  await until(() => !node.agenda.up, 'the loss is noticed', 20_000);
  await works(node, 'after.test');
});
