/**
 * Commit, schedule, attempt, settle, over a disk that fails and lives that end by power cut: whatever happens, once
 * the world heals every acknowledged recipient has met its fate (I1, I2, I3, I6).
 *
 *   SIM_SEED=12 node --test test/simulation/*.test.ts      one seed
 *   SIM_SEEDS=1000 node --test test/simulation/*.test.ts   many
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HEALED, type Troubles, World } from './world.ts';

const SEEDS = Number(process.env.SIM_SEEDS ?? 12);
const ONLY = process.env.SIM_SEED;
const MESSAGES = 60;
const BUSY_MS = 6000;
/** Virtual time a healed world may take; the longest retry in it is 5 s. */
const HEAL_MS = 600_000;
/** The database is real, its fsync need not be. */
const PLACE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

const DOMAINS = ['a.test', 'b.test', 'c.test', 'd.test'];

const WORLDS: { name: string; troubles: Troubles; duplicates: boolean }[] = [
  {
    name: 'peers that defer and refuse',
    troubles: { diskFaults: 0, crashEveryMs: 0, deferred: 0.3, bounced: 0.1 },
    duplicates: false,
  },
  {
    name: 'a disk that fails',
    troubles: { diskFaults: 0.2, crashEveryMs: 0, deferred: 0.2, bounced: 0.1 },
    duplicates: false,
  },
  {
    name: 'power cuts',
    troubles: { diskFaults: 0, crashEveryMs: 800, deferred: 0.2, bounced: 0.1 },
    duplicates: true,
  },
  {
    name: 'everything at once',
    troubles: { diskFaults: 0.15, crashEveryMs: 1500, deferred: 0.3, bounced: 0.1 },
    duplicates: true,
  },
];

for (const { name, troubles, duplicates } of WORLDS) {
  test(`${name}: nothing acknowledged is lost, refused mail stays refused`, {
    timeout: 120_000,
  }, async (t) => {
    let crashes = 0;
    let faults = 0;
    const seeds =
      ONLY === undefined ? Array.from({ length: SEEDS }, (_, index) => index + 1) : [Number(ONLY)];
    for (const seed of seeds) {
      const dir = mkdtempSync(join(PLACE, 'simulation-'));
      try {
        const world = new World(seed, dir, troubles);
        await live(world);
        await check(world, seed, duplicates);
        crashes += world.crashes;
        faults += world.faults;
        await world.life.cut();
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
    }
    t.diagnostic(`${seeds.length} seeds, ${crashes} crashes, ${faults} disk faults`);
  });
}

/** Mail comes in while troubles last; then they end, and everything must come to rest. */
async function live(world: World): Promise<void> {
  await world.life.start();
  const beganMs = world.nowMs;
  for (let i = 0; i < MESSAGES; i++) {
    const domains = DOMAINS.filter(() => world.next() < 0.4);
    if (domains.length === 0) domains.push('a.test');
    if (world.next() < 0.3) domains.push(domains[0] as string);
    world.later(world.next() * BUSY_MS, () => world.life.submit(domains));
  }
  const { crashEveryMs } = world.troubles;
  while (world.nowMs < beganMs + BUSY_MS) {
    const aliveMs = crashEveryMs === 0 ? BUSY_MS : crashEveryMs * 2 * world.next();
    const untilMs = Math.min(beganMs + BUSY_MS, world.nowMs + Math.ceil(aliveMs));
    await world.run(untilMs);
    world.nowMs = Math.max(world.nowMs, untilMs);
    if (crashEveryMs > 0) await world.crash();
  }
  world.troubles = HEALED;
}

async function check(world: World, seed: number, duplicates: boolean): Promise<void> {
  const says = `(SIM_SEED=${seed})`;
  const rested = await world.run(world.nowMs + HEAL_MS, () => world.life.idle);
  assert.ok(
    rested,
    `no rest: ${JSON.stringify([world.life.commits.stats(), world.life.scheduler.stats()])} ${says}`,
  );
  assert.deepEqual(world.damaged, [], says);
  assert.equal(world.life.arena.held, 0, `content is still referred to ${says}`);
  assert.ok(world.acknowledged.size > 0, says);

  const asked = world.life.database.stats();
  let stats: Awaited<typeof asked> | undefined;
  void asked.then((answer) => {
    stats = answer;
  });
  await world.run(world.nowMs + HEAL_MS, () => stats !== undefined);
  const { PENDING, SENDING, RETRY } = (await asked).rows;
  assert.deepEqual([PENDING, SENDING, RETRY], [0, 0, 0], says);

  for (const [queueId, recipients] of world.acknowledged) {
    for (let seq = 0; seq < recipients; seq++) {
      const key = `${queueId} ${seq}`;
      const taken = world.taken.get(key) ?? 0;
      const bounces = world.bounces.get(key) ?? 0;
      assert.ok(taken + bounces > 0, `${key} was lost ${says}`);
      assert.ok((world.fates.get(key) ?? 0) <= 1, `${key} has two fates ${says}`);
      if (duplicates) continue;
      assert.equal(taken + bounces, 1, `${key} came twice without a crash ${says}`);
      assert.equal(world.fates.get(key), 1, `${key}: its fate was not logged ${says}`);
    }
  }
  for (const [queueId, life] of world.refused) {
    if (!life.alive) continue;
    assert.ok(!world.taken.has(`${queueId} 0`), `${queueId} got a 451 and was delivered ${says}`);
  }
}
