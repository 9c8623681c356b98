/**
 * That the simulation can fail: each of these changes to the program, one line, is noticed by a seed of the scenario
 * that is there for it. Seeds end at the first that notices.
 *
 *   SIM_SEEDS=200 node --test test/simulation/mutations.test.ts      the long form: seeds of every scenario
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/child.ts';
import { MUTATIONS, type Mutation } from './cluster/mutations.ts';

const HUNT = join(import.meta.dirname, 'cluster/hunt.ts');
const LONG = process.env.SIM_SEEDS;
/** Of most one in five notices, of the rarest one in forty: that none of so many does is a chance of 1 in 40. */
const SEEDS = LONG ?? '150';
/** Children at a time. */
const AT_ONCE = 2;

test('the simulation notices what it is there for', { timeout: 3_600_000 }, async (t) => {
  const names = Object.keys(MUTATIONS);
  const unnoticed: string[] = [];
  const work = async (): Promise<void> => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const { scenario, seed = 1 } = MUTATIONS[name] as Mutation;
      const only = LONG === undefined ? [`${scenario}`, `${seed}`] : [];
      const { code, stdout, stderr } = await run(process.execPath, [HUNT, SEEDS, name, ...only], {
        timeoutMs: 1_800_000,
      });
      if (code === 0) unnoticed.push(name);
      else assert.match(stdout, /SIM_SEED|unhandled|uncaught/, `${name}: ${stderr}`);
      t.diagnostic(`${name}: ${stdout.slice(0, 200)}`);
      const noticed = /SIM_SEED=(\d+)/.exec(stdout)?.[1];
      if (LONG === undefined && Number(noticed) > 10 && Number(noticed) !== seed)
        t.diagnostic(`${name}: quicker with seed: ${noticed} in cluster/mutations.ts`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  assert.deepEqual(unnoticed, []);
});
