/**
 * Looks for the first seed at which a scenario goes wrong; with a mutation that must not take long.
 *
 *   node test/simulation/cluster/hunt.ts SEEDS [MUTATION [SCENARIO [SEED]]]      without a number: all scenarios
 *
 * SEED is tried first.
 *
 * Prints what went wrong, and ends with 1 when something did.
 */
import { enterSimulation } from './hooks.ts';

const [seeds = '100', mutation, only, first = '1'] = process.argv.slice(2);
enterSimulation(mutation);
const { SCENARIOS, simulate } = await import('./scenarios.ts');
// What a spoiled program does besides is no matter.
process.on('unhandledRejection', (error) => found(`unhandled: ${error}`));
process.on('uncaughtException', (error) => found(`uncaught: ${error}`));
const all = Array.from({ length: Number(seeds) }, (_, index) => index + 1);
for (const seed of new Set([Number(first), ...all]))
  for (const [number, scenario] of SCENARIOS.entries()) {
    if (only !== undefined && Number(only) !== number) continue;
    const { violations } = await simulate(scenario, seed);
    if (violations.length > 0)
      found(`${scenario.name}, SIM_SCENARIO=${number} SIM_SEED=${seed}: ${violations[0]}`);
  }
console.log('nothing went wrong');

function found(what: string): never {
  console.log(what.slice(0, 1000));
  process.exit(1);
}
