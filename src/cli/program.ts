/** The program without its commands: what its help, its errors and its output look like. */
import { existsSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { Command, Help, Option } from 'commander';
import { EXIT } from '../base/exit-codes.ts';
import { nearest } from '../base/nearest.ts';
import { printableLines } from '../base/printable.ts';
import { type CommandLine, noteBelow } from './command-line.ts';

const CONFIG = new Option(
  '-c, --config <path>',
  'config file (default: config/relay.json of the installation)',
);
const SIGNALS =
  'Signals: TERM and INT drain (a second one stops now), HUP reloads the config, USR1 reopens log and event files.';
const EXIT_CODES =
  'Exit codes: 0 done, 1 or 2 what lint found, 64 usage, 65 no such message or user, or damaged queue, 69 cannot listen or not running, 70 internal fault, 73 cannot create, 74 disk, 75 try later or impaired, 78 bad config (docs/exit-codes.md).';
/** Help as commander writes it. */
const HELP = new Help();

export function newProgram(out: Writable, err: Writable): Command {
  // When nobody reads complaints there is nobody to complain to; the exit code stays what it is.
  err.on('error', () => {});
  /** For commands and help. A relay serves on, whoever has stopped to read what it prints. */
  const guarded = (): Writable =>
    out.listeners('error').includes(outputFailed) ? out : out.on('error', outputFailed);
  const program = new Command('protorelay')
    .description('High-throughput SMTP relay. Without a command: starts the relay.')
    .helpOption('-h, --help', 'show this text')
    .helpCommand(false)
    .addOption(CONFIG)
    // Of the options above a command, this one counts for it too.
    .configureHelp({
      showGlobalOptions: true,
      visibleGlobalOptions: (command) => (command.parent === null ? [] : [CONFIG]),
      // That what is off, or empty, is so by default goes without saying.
      optionDescription: (option) =>
        option.defaultValue === false || option.defaultValue === ''
          ? option.description
          : HELP.optionDescription(option),
    })
    .option('-V, --version', 'show version, commit, build time, platform, compiler, Node and features')
    .argument('[config]', 'config file, as with --config')
    .configureOutput({
      writeOut: (text) => void guarded().write(text),
      writeErr: (text) => void err.write(printableLines(text)),
      outputError: (text, write) => write(text.replace(/^error: /, 'protorelay: ')),
    })
    .exitOverride();
  program.hook('preAction', (program, action) => {
    if (action !== program || program.opts().version) guarded();
  });
  noteBelow(program, SIGNALS, EXIT_CODES);
  return program;
}

/** Refuses a word in the place of the config that is no file: it was meant as a command. */
export function refuseUnknown(word: string, commands: readonly string[], line: CommandLine): void {
  if (!/^\w[\w-]*$/.test(word) || existsSync(word)) return;
  const near = nearest(word, commands);
  const hint = near === null ? 'see protorelay --help' : `did you mean ${near}?`;
  line.usage(`there is no command ${word}, nor a config file of that name (${hint})`);
}

/** What a command prints goes nowhere: `queue list | head` closes it, which is the end and no failure. */
function outputFailed({ code, message }: NodeJS.ErrnoException): never {
  if (code === 'EPIPE') process.exit(EXIT.ok);
  process.stderr.write(printableLines(`protorelay: standard output cannot be written: ${message}\n`));
  process.exit(EXIT.ioError);
}
