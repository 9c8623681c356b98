/** What befalls the simulated cluster, and what is asked of it afterwards. Import after enterSimulation. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HEALED, type Troubles, World } from './world.ts';

export interface Scenario {
  name: string;
  troubles: Partial<Troubles>;
  messages?: number;
}

const PEERS = { slowPeers: 0.1, lostReplies: 0.03, deferred: 0.2, bounced: 0.1 };

export const SCENARIOS: Scenario[] = [
  { name: 'peers that are slow, defer, refuse and break off', troubles: PEERS },
  {
    name: 'nodes that die, are restarted, and lose their persistence thread',
    troubles: { ...PEERS, crashEveryMs: 800, drainEveryMs: 2000, threadDeathEveryMs: 2000 },
  },
  {
    name: 'nodes that stand still past their leases',
    troubles: { ...PEERS, hangEveryMs: 700 },
  },
  {
    name: 'partitions between nodes and shards, lost answers, deadlocks',
    troubles: { ...PEERS, cutEveryMs: 600, losses: 0.005, deadlocks: 0.01 },
  },
  {
    name: 'shards that are killed, and that hang',
    troubles: { ...PEERS, serverKillEveryMs: 1500, serverPauseEveryMs: 1500 },
  },
  {
    name: 'clients that give up while their message is committed, and claims at the same time',
    troubles: {
      ...PEERS,
      impatient: 0.6,
      slowShare: 0.3,
      slowMs: 40,
      pollMs: 10,
      places: 4,
      hangEveryMs: 1000,
      losses: 0.01,
      deadlocks: 0.02,
    },
    messages: 120,
  },
  {
    name: 'operators that end and reroute mail, while nodes die and commits are in doubt',
    troubles: {
      ...PEERS,
      deferred: 0.5,
      operateEveryMs: 100,
      crashEveryMs: 1500,
      hangEveryMs: 1500,
      losses: 0.01,
      deadlocks: 0.01,
    },
  },
  {
    name: 'everything at once',
    troubles: {
      ...PEERS,
      crashEveryMs: 1500,
      drainEveryMs: 4000,
      threadDeathEveryMs: 4000,
      operateEveryMs: 1000,
      hangEveryMs: 1500,
      cutEveryMs: 1500,
      serverKillEveryMs: 3000,
      serverPauseEveryMs: 3000,
      losses: 0.002,
      deadlocks: 0.005,
      impatient: 0.2,
    },
  },
];

const BUSY_MS = 6000;
const MESSAGES = 40;
/**
 * Virtual time in which everything acknowledged has its fate after the last fault ended: a lease of 2 s, the longest
 * pause between attempts of 2 s, that of a settlement that failed (5 s), and what a drain may take (2 s).
 */
export const REST_MS = 15_000;
/** The database servers' files are in memory; content and spill files need not be on a disk either. */
const PLACE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

export interface Outcome {
  /** What must not be; [] when all is well. */
  violations: string[];
  counts: World['counts'];
  duplicatesBy: ReadonlyMap<string, number>;
  acknowledged: number;
  restMs: number;
  digest: number;
}

/** Lives through the scenario in a world made of the seed: 1 to 4 nodes, 1 to 3 shards. */
export function simulate({ troubles, messages = MESSAGES }: Scenario, seed: number): Promise<Outcome> {
  const shards = 1 + (Math.floor(seed / 4) % 3);
  return inWorld(seed, 1 + (seed % 4), shards, { ...HEALED, ...troubles }, async (world) => {
    await world.live(BUSY_MS, messages);
    const restMs = await world.rest(REST_MS);
    if (restMs === null) world.violation(`no rest within ${REST_MS} ms: ${world.describe()}`);
    else world.judge();
    const { counts, duplicatesBy, acknowledged } = world;
    return {
      violations: [...world.violations, ...world.servers.flatMap(({ violations }) => violations)],
      counts,
      duplicatesBy,
      acknowledged: acknowledged.size,
      restMs: restMs ?? REST_MS,
      digest: world.clock.digest,
    };
  });
}

async function inWorld<T>(
  seed: number,
  nodes: number,
  shards: number,
  troubles: Troubles,
  work: (world: World) => Promise<T>,
): Promise<T> {
  const dir = mkdtempSync(join(PLACE, 'simulation-'));
  const world = new World(seed, dir, nodes, shards, troubles);
  try {
    return await work(world);
  } finally {
    for (const server of world.servers) server.dispose();
    rmSync(dir, { recursive: true, force: true });
  }
}

/**
 * A shard goes away, with rows of it being sent, for many times the lease; meanwhile mail comes in on the other.
 * @returns recipients acknowledged while it was away, those of them that had met their fate before it came back, and
 *   what must not be.
 */
export function withoutShard(
  seed: number,
): Promise<{ recipients: number; settled: number; violations: string[] }> {
  return inWorld(seed, 2, 2, { ...HEALED, slowPeers: 0.3 }, async (world) => {
    world.begin();
    const { clock } = world;
    await clock.run(clock.nowMs + 500);
    for (let i = 0; i < 10; i++) world.submit();
    await clock.run(clock.nowMs + 60);
    world.servers[0]?.kill();
    const fault = world.fault('server killed', null, 0, clock.nowMs, Number.POSITIVE_INFINITY);
    await clock.run(clock.nowMs + 3 * world.leaseMs);
    const before = new Set(world.acknowledged.keys());
    for (let i = 0; i < 20; i++) clock.later(i * 200, () => world.submit());
    // The last of them is 4 s old then: no peer takes longer.
    await clock.run(clock.nowMs + 20 * 200 + 2 * (2.5 * world.leaseMs + 500));
    let recipients = 0;
    let settled = 0;
    for (const [queueId, count] of world.acknowledged) {
      if (before.has(queueId)) continue;
      recipients += count;
      for (let seq = 0; seq < count; seq++) if (world.fates.has(`${queueId} ${seq}`)) settled++;
    }
    world.servers[0]?.start();
    fault.toMs = clock.nowMs;
    world.troubles = HEALED;
    if ((await world.rest(REST_MS)) === null) world.violation('no rest after the shard came back');
    else world.judge();
    return { recipients, settled, violations: world.violations };
  });
}
