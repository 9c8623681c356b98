/** The agenda, and what hosts share of the policy, over a Redis Cluster and over what sentinels name: both for real, with a failover. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { parseNetwork } from '../../src/base/ip.ts';
import { silentLog } from '../../src/base/log.ts';
import { PolicyCluster } from '../../src/policy/cluster.ts';
import { ClusterBans } from '../../src/policy/cluster-bans.ts';
import { ClusterLedger } from '../../src/policy/cluster-ledger.ts';
import { Greylist } from '../../src/policy/greylist.ts';
import { policyMs } from '../../src/policy/policy-time.ts';
import { BullmqAgenda } from '../../src/scheduler/bullmq-agenda.ts';
import type { RedisServer } from '../services/redis.ts';
import { skipWithoutRedis } from '../services/redis.ts';
import { startCluster, startSentinels, type Topology } from '../services/redis-topologies.ts';
import { configOf, policyMemory } from '../session/dialog-fixture.ts';
import { until } from '../support/wait.ts';

const options = { skip: skipWithoutRedis() };

type Kind = 'cluster' | 'sentinel';

const accessTo = (topology: Kind, { nodes }: Topology) => ({
  url: 'redis://unused',
  topology,
  nodes,
  masterName: 'mymaster',
  prefix: 'protorelay',
  timeoutMs: 2000,
});

function agendaOn(topology: Kind, servers: Topology) {
  const due: string[] = [];
  const agenda = new BullmqAgenda({
    ...accessTo(topology, servers),
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

class Host {
  readonly cluster: PolicyCluster;
  readonly #memory = policyMemory(config);

  constructor(t: TestContext, topology: Kind, servers: Topology, name: string) {
    const { bans, greylist, counters } = this.#memory;
    this.cluster = new PolicyCluster({
      ...accessTo(topology, servers),
      name,
      intervalMs: 50,
      bans: new ClusterBans({ table: bans, forgetMs: () => 1000, maxEntries: 8 }),
      ledger: new ClusterLedger(this.#memory, () => new Greylist(config.policy.greylist, greylist)),
      log: silentLog,
      now: policyMs,
    });
    this.hosts = () => counters.table.nodes;
    t.after(() => this.cluster.close());
  }

  /** How many there are, as this one knows. */
  readonly hosts: () => number;

  ban(address: string): void {
    const nowMs = policyMs();
    const ban = { kind: 'auth', sinceMs: nowMs, untilMs: nowMs + 900_000, times: 1 } as const;
    this.#memory.bans.put(networkOf(address), ban);
  }

  bans(address: string): boolean {
    return this.#memory.bans.get(networkOf(address)) !== null;
  }
}

const config = configOf({ policy: { scope: 'cluster', max_counters: 1024 } });
const networkOf = (address: string) => parseNetwork(address) ?? assert.fail(address);

/** A ban of one is one of the other. */
async function tell(from: Host, to: Host, address: string): Promise<void> {
  await until(() => from.cluster.up && to.cluster.up, 'both use Redis', 20_000);
  from.ban(address);
  await until(() => to.bans(address), `the ban of ${address} is known`, 20_000);
}

/** Everything that nodes share goes over it. */
async function works({ agenda, due }: ReturnType<typeof agendaOn>, destination: string): Promise<void> {
  await until(() => agenda.up, 'Redis is up', 20_000);
  agenda.announce({ destination, shard: 0, atMs: Date.now() + 10 });
  await until(() => due.includes(destination), `${destination} is due`, 20_000);
  assert.equal(await agenda.leaseTokens(destination, 10, 5, 3), 3);
  assert.deepEqual(await agenda.leaseParts([{ name: destination, held: 0, wanted: 2, limit: 5 }]), [2]);
}

test('a cluster of three masters: the default prefix works, all keys lie in one slot', options, async (t) => {
  const topology = await startCluster();
  t.after(() => topology.close());
  const node = agendaOn('cluster', topology);
  t.after(() => node.agenda.close());
  for (const destination of ['a.test', 'b.test', 'c.test']) await works(node, destination);
  const [a, b] = [new Host(t, 'cluster', topology, 'a'), new Host(t, 'cluster', topology, 'b')];
  await tell(a, b, '192.0.2.1');
  await until(() => a.hosts() === 2 && b.hosts() === 2, 'each counts both');
  // One that is stopped and started again is not two.
  await b.cluster.close();
  const again = new Host(t, 'cluster', topology, 'b');
  await tell(a, again, '192.0.2.2');
  assert.deepEqual([a.hosts(), again.hosts()], [2, 2]);
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
  const [a, b] = [new Host(t, 'sentinel', topology, 'a'), new Host(t, 'sentinel', topology, 'b')];
  await tell(a, b, '192.0.2.1');
  await (topology.servers[0] as RedisServer).stop();
  await until(() => !node.agenda.up, 'the loss is noticed', 20_000);
  await works(node, 'after.test');
  await tell(b, a, '192.0.2.2');
});
