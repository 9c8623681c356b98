/**
 * Looks for the first seed at which a scenario goes wrong; with a mutation that must not take long.
 *
 *   node test/simulation/cluster/hunt.ts SEEDS [MUTATION [SCENARIO]]      without a number: all scenarios
 *
 * Prints what went wrong, and ends with 1 when something did.
 */
import { enterSimulation } from './hooks.ts';

const [seeds = '100', mutation, only] = process.argv.slice(2);
enterSimulation(mutation);
const { SCENARIOS, simulate } = await import('./scenarios.ts');
// What a spoiled program does besides is no matter.
process.on('unhandledRejection', (error) => found(`unhandled: ${error}`));
process.on('uncaughtException', (error) => found(`uncaught: ${error}`));
for (let seed = 1; seed <= Number(seeds); seed++)
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
