/**
 * Whole dialogs from a grammar, through the real session and delivery threads of a real relay. A short run; for longer:
 *
 *   ./build.sh fuzz dialogs 600            # prints the seed of a round that failed
 *   FUZZ_SEED=1234 ./build.sh fuzz dialogs # that round again
 *   FUZZ_SANITIZED=1 ./build.sh fuzz dialogs 600 # the same with the addon of ./build.sh sanitize
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Dice } from '../support/dice.ts';
import { clientDialog } from './dialogs/client-grammar.ts';
import { DialogWorld } from './dialogs/world.ts';

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 4);
const SEED = process.env.FUZZ_SEED === undefined ? null : Number(process.env.FUZZ_SEED);
const TIMEOUT_MS = SECONDS * 1000 + 120_000;

test('a seed gives one dialog, another gives another', () => {
  const played = (seed: number) => JSON.stringify(clientDialog(new Dice(seed, 1)));
  assert.equal(played(7), played(7));
  assert.equal(new Set(Array.from({ length: 50 }, (_, seed) => played(seed))).size, 50);
});

test('odd clients and odd next hops leave nothing behind, and good mail goes through', {
  timeout: TIMEOUT_MS,
}, async (t) => {
  const world = await DialogWorld.start();
  t.after(() => world.destroy());
  const endMs = performance.now() + SECONDS * 1000;
  const first = SEED ?? Date.now() % 1_000_000_000;
  let seed = first;
  try {
    do await world.round(seed++);
    while (SEED === null && performance.now() < endMs);
  } catch (error) {
    // Rounds share one relay: what the last one met may have been left by one before.
    const how = `FUZZ_SEED=${seed - 1} ./build.sh fuzz dialogs (rounds since ${first})`;
    throw new Error(`${how}\n${(error as Error).stack}\n${world.relay.output()}`);
  }
  t.diagnostic(`${seed - first} rounds from seed ${first}`);
});
