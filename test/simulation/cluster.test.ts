/**
 * Two to four relays on one to three shards, in one seeded world: nodes that die, stand still and lose sight of
 * shards, shards that go away, answers that are lost or late, peers that break off. While it lasts nothing may be
 * sent by a node whose row it is not, and no fence goes back; when it is over, every acknowledged recipient has met
 * exactly one fate within REST_MS, and whoever got a message twice did so by a fault that explains it (I2, I6).
 *
 *   node --test test/simulation/cluster.test.ts                                   the short form
 *   ./build.sh simulate 1000                                                      the long form
 *   SIM_SCENARIO=2 SIM_SEED=12 node --test test/simulation/cluster.test.ts        one seed; with SIM_TRACE=1 it talks
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { enterSimulation } from './cluster/hooks.ts';

enterSimulation(process.env.SIM_MUTATION);
const { SCENARIOS, simulate, withoutShard } = await import('./cluster/scenarios.ts');

const SEEDS = Number(process.env.SIM_SEEDS ?? 12);
const ONLY = process.env.SIM_SEED;
const LONG = 3_600_000;

/** What a scenario is about must have happened, or it shows nothing. */
const HAPPENS: (keyof Awaited<ReturnType<typeof simulate>>['counts'])[][] = [
  [],
  ['crash', 'drain', 'threadDeath'],
  ['hang', 'leasesLapsed', 'lapsed', 'rejected'],
  ['cut', 'lost'],
  ['serverKill', 'serverPause'],
  ['hang', 'lost', 'withdrawn'],
  ['failed', 'rerouted', 'crash', 'hang', 'lost'],
  ['crash', 'drain', 'threadDeath', 'hang', 'cut', 'lost', 'serverKill', 'serverPause'],
];

for (const [number, scenario] of SCENARIOS.entries()) {
  if (process.env.SIM_SCENARIO !== undefined && Number(process.env.SIM_SCENARIO) !== number) continue;
  test(`cluster, ${scenario.name}: one fate each, and every duplicate is explained`, {
    timeout: LONG,
  }, async (t) => {
    const seeds =
      ONLY === undefined ? Array.from({ length: SEEDS }, (_, index) => index + 1) : [Number(ONLY)];
    const sums: Record<string, number> = {};
    const duplicates: Record<string, number> = {};
    let acknowledged = 0;
    let longestMs = 0;
    for (const seed of seeds) {
      const outcome = await simulate(scenario, seed);
      const replay = `SIM_SCENARIO=${number} SIM_SEED=${seed} node --test test/simulation/cluster.test.ts`;
      assert.deepEqual(outcome.violations, [], `again: ${replay}`);
      for (const [what, times] of Object.entries(outcome.counts)) sums[what] = (sums[what] ?? 0) + times;
      for (const [why, times] of outcome.duplicatesBy) duplicates[why] = (duplicates[why] ?? 0) + times;
      acknowledged += outcome.acknowledged;
      longestMs = Math.max(longestMs, outcome.restMs);
    }
    t.diagnostic(`${seeds.length} seeds, ${acknowledged} messages, rest after ${longestMs} ms at most`);
    t.diagnostic(JSON.stringify(sums));
    t.diagnostic(`duplicates by ${JSON.stringify(duplicates)}`);
    if (ONLY !== undefined || SEEDS < 12) return;
    assert.ok(acknowledged > seeds.length * 10);
    for (const what of HAPPENS[number] ?? []) assert.ok((sums[what] ?? 0) > 0, `${what} never happened`);
  });
}

test('cluster: a seed gives the same world again', async () => {
  const scenario = SCENARIOS[SCENARIOS.length - 1] as (typeof SCENARIOS)[number];
  const [first, second] = [await simulate(scenario, 7), await simulate(scenario, 7)];
  assert.equal(second.digest, first.digest);
  assert.notEqual((await simulate(scenario, 8)).digest, first.digest);
});

test('cluster: a world that is over leaves nothing in memory, so that thousands can follow each other', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heapBytes = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const [scenario] = SCENARIOS as [(typeof SCENARIOS)[number]];
  for (let seed = 1; seed <= 3; seed++) await simulate(scenario, seed);
  const before = heapBytes();
  for (let seed = 1; seed <= 6; seed++) await simulate(scenario, seed);
  const each = (heapBytes() - before) / 6;
  // One that stays is several megabytes.
  assert.ok(each < 1_000_000, `${Math.round(each / 1000)} KB each`);
});

test('cluster: a shard that is away for long holds up no mail of the others', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const { recipients, settled, violations } = await withoutShard(seed);
    assert.deepEqual(violations, [], `seed ${seed}`);
    assert.ok(recipients > 10);
    assert.equal(settled, recipients, `seed ${seed}`);
  }
});
