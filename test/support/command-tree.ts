/** The command line within this process, from the groups in src/cli, whichever there are. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import type { CommandLine } from '../../src/cli/command-line.ts';

const CLI = join(import.meta.dirname, '../../src/cli');

export async function commandTree(line: CommandLine): Promise<Command> {
  const program = new Command('protorelay');
  for (const file of readdirSync(CLI).sort()) {
    const module = (await import(join(CLI, file))) as Record<string, unknown>;
    for (const [name, add] of Object.entries(module))
      if (/^add[A-Z]/.test(name)) (add as (program: Command, line: CommandLine) => void)(program, line);
  }
  return program.exitOverride();
}

/** Commands that have the option, as 'queue list'. */
export function commandsWith(option: string, { commands }: Command, before = ''): string[] {
  return commands.flatMap((command) => {
    const name = `${before}${command.name()}`;
    const has = command.options.some(({ long }) => long === option);
    return [...(has ? [name] : []), ...commandsWith(option, command, `${name} `)];
  });
}
