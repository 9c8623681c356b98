/** `protorelay reload`: asks the running relay to reload, and prints what became of it. */
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { dataDirOf } from '../config/load.ts';
import type { ReloadAnswer } from '../control/protocol.ts';
import { reloadAnswer } from '../control/reload-answer.ts';
import type { CommandLine } from './command-line.ts';

export function addReload(program: Command, line: CommandLine): void {
  program
    .command('reload')
    .description('make the running relay read its config and certificates again, as SIGHUP does')
    .option('--json', 'print JSON', false)
    .action(async ({ json }) => {
      const { askRelay } = await import('../control/running-relay.ts');
      const answer = await askRelay(dataDirOf(line.configPath()), (client) => client.reload());
      line.endsWith(tellReloaded(answer, json, line.out, line.err));
    });
}

function tellReloaded(answer: ReloadAnswer, json: boolean, out: Writable, err: Writable): ExitCode {
  const { applied, needsRestart, problems } = answer;
  for (const problem of problems) err.write(printableLines(`protorelay: not reloaded: ${problem}\n`));
  if (json) out.write(`${printableJson(JSON.stringify(reloadAnswer(answer), null, 2))}\n`);
  else {
    if (applied.length > 0) out.write(printableLines(`changed: ${applied.join(', ')}\n`));
    if (needsRestart.length > 0) out.write(printableLines(`takes a restart: ${needsRestart.join(', ')}\n`));
    if (problems.length === 0) out.write('reloaded\n');
  }
  return problems.length === 0 ? EXIT.ok : EXIT.config;
}
