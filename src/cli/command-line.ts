import type { Writable } from 'node:stream';
import { type Command, Help } from 'commander';
import type { ExitCode } from '../base/exit-codes.ts';

const HELP = new Help();

/** What a group of commands needs of the command line that it is part of. */
export interface CommandLine {
  /** Where commands print. */
  readonly out: Writable;
  readonly err: Writable;
  /** @param positional where the command takes the config file as an argument too. */
  configPath(positional?: string): string;
  /** Sets the exit code with which the program is to end, once its output is on its way. */
  endsWith(code: ExitCode): void;
  /** The arguments make no sense: prints the message and ends. */
  usage(message: string): never;
}

/** Adds paragraphs to the end of a command's help, as wide as the terminal. */
export const noteBelow = (command: Command, ...notes: readonly string[]): Command =>
  command.addHelpText('after', () => {
    const width = process.stdout.columns ?? 80;
    return `\n${notes.map((note) => HELP.boxWrap(note, width)).join('\n')}`;
  });
