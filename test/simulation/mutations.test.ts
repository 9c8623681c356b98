/**
 * That the simulation can fail: each of these changes to the program, one line, is noticed by a seed of the short form.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/child.ts';
import { MUTATIONS } from './cluster/mutations.ts';

const HUNT = join(import.meta.dirname, 'cluster/hunt.ts');
/** Of the 40 that the short form has. */
const SEEDS = '30';
/** Children at a time. */
const AT_ONCE = 2;

test('the simulation notices what it is there for', { timeout: 600_000 }, async (t) => {
  const names = Object.keys(MUTATIONS);
  const unnoticed: string[] = [];
  const work = async (): Promise<void> => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const { code, stdout, stderr } = await run(process.execPath, [HUNT, SEEDS, name], {
        timeoutMs: 200_000,
      });
      if (code === 0) unnoticed.push(name);
      else assert.match(stdout, /SIM_SEED|unhandled|uncaught/, `${name}: ${stderr}`);
      t.diagnostic(`${name}: ${stdout.slice(0, 120)}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  assert.deepEqual(unnoticed, []);
});
