/**
 * Runs operator commands one after the other in one process: `node every-command.ts CONFIG`, the command lines as JSON on
 * standard input. Prints as JSON which commands there are, which of them have --json, and what each line came to.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { RelayError } from '../../src/base/errors.ts';
import { EXIT_OF_ERROR } from '../../src/base/exit-codes.ts';
import type { CommandLine } from '../../src/cli/command-line.ts';

const CLI = join(import.meta.dirname, '../../src/cli');
const config = process.argv[2] as string;

type Add = (program: Command, line: CommandLine) => void;
const groups: Add[] = [];
for (const file of readdirSync(CLI)) {
  const exported = (await import(join(CLI, file))) as Record<string, unknown>;
  for (const [name, value] of Object.entries(exported))
    if (/^add[A-Z]/.test(name) && typeof value === 'function' && value.length === 2)
      groups.push(value as Add);
}

function build(line: CommandLine): Command {
  const program = new Command('protorelay').exitOverride().configureOutput({ writeErr: () => {} });
  for (const add of groups) add(program, line);
  return program;
}

function namesOf(command: Command, prefix = ''): string[] {
  return command.commands.flatMap((one) => {
    const name = `${prefix}${one.name()}`;
    return one.commands.length > 0 ? namesOf(one, `${name} `) : [name];
  });
}

/** Commands that have --json. */
function jsonOf({ commands }: Command, prefix = ''): string[] {
  return commands.flatMap((one) => {
    const name = `${prefix}${one.name()}`;
    return [...(one.options.some(({ long }) => long === '--json') ? [name] : []), ...jsonOf(one, `${name} `)];
  });
}

async function outcome(words: string[]): Promise<{ code: number; said: string; stdout: string }> {
  let [code, said, stdout] = [0, '', ''];
  const write = (text: unknown): boolean => {
    said += String(text);
    return true;
  };
  const [out, err] = [process.stdout.write, process.stderr.write];
  process.stdout.write = (text: unknown): boolean => {
    stdout += String(text);
    return write(text);
  };
  process.stderr.write = write as typeof out;
  try {
    const line = {
      out: process.stdout,
      err: process.stderr,
      configPath: (positional?: string) => positional ?? config,
      endsWith: (ended: number) => {
        code = ended;
      },
      usage: (text: string): never => {
        throw new Error(text);
      },
    };
    await build(line as CommandLine).parseAsync(words, { from: 'user' });
  } catch (error) {
    said += String(error);
    code =
      error instanceof RelayError ? EXIT_OF_ERROR[error.code] : error instanceof CommanderError ? 64 : 70;
  } finally {
    process.stdout.write = out;
    process.stderr.write = err;
  }
  return { code, said, stdout };
}

const lines = JSON.parse(readFileSync(0, 'utf8')) as string[][];
const outcomes = [];
for (const words of lines) outcomes.push(await outcome(words));
const program = build({} as CommandLine);
process.stdout.write(JSON.stringify({ commands: namesOf(program), withJson: jsonOf(program), outcomes }));
