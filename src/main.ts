/** Arguments, exit codes, and the table of command groups. Commands are in cli/; what a relay is made of is in relay/. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, Help, Option } from 'commander';
import { RelayError } from './base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from './base/exit-codes.ts';
import { printableLines } from './base/printable.ts';
import { addBans } from './cli/ban.ts';
import { type CommandLine, noteBelow } from './cli/command-line.ts';
import { addConfig } from './cli/config.ts';
import { addDatabase } from './cli/db.ts';
import { addEvents } from './cli/events.ts';
import { addQueue } from './cli/queue.ts';
import { addReload } from './cli/reload.ts';
import { addReplies } from './cli/replies.ts';
import { addStatus } from './cli/status.ts';
import { addSuspensions } from './cli/suspensions.ts';
import { addTls } from './cli/tls.ts';
import { addUser } from './cli/user.ts';
import { nearest } from './config/shape.ts';
import { versionPage } from './version.ts';

const ROOT = join(import.meta.dirname, '..');
const CONFIG = new Option(
  '-c, --config <path>',
  'config file (default: config/relay.json of the installation)',
);
const GROUPS = [
  addStatus,
  addQueue,
  addSuspensions,
  addEvents,
  addBans,
  addUser,
  addDatabase,
  addConfig,
  addReload,
  addReplies,
  addTls,
];
const SIGNALS =
  'Signals: TERM and INT drain (a second one stops now), HUP reloads the config, USR1 reopens log and event files.';
const EXIT_CODES =
  'Exit codes: 0 done, 64 usage, 65 no such message or user, or damaged queue, 69 cannot listen or not running, 70 internal fault, 73 cannot create, 74 disk, 75 try later or impaired, 78 bad config (docs/exit-codes.md).';
/** Help as commander writes it. */
const HELP = new Help();

/** The command line: parses it, does what it says, and keeps the exit code. */
class Protorelay implements CommandLine {
  code: ExitCode = EXIT.ok;
  readonly #program = new Command('protorelay');

  constructor() {
    this.#program
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
        writeErr: (text) => void process.stderr.write(printableLines(text)),
        outputError: (text, write) => write(text.replace(/^error: /, 'protorelay: ')),
      })
      .exitOverride()
      .action((config: string | undefined, options) =>
        options.version ? printVersion() : this.#run(config),
      );
    this.#program.hook('preAction', (program, action) => {
      if (action !== program) process.stdout.on('error', outputFailed);
    });
    noteBelow(this.#program, SIGNALS, EXIT_CODES);
    for (const add of GROUPS) add(this.#program, this);
    // Not before: commands would inherit it. Here the first word says what was meant by several.
    this.#program.allowExcessArguments();
  }

  /** @throws CommanderError, RelayError */
  async execute(args: readonly string[]): Promise<void> {
    await this.#program.parseAsync(args, { from: 'user' });
  }

  async #run(config: string | undefined): Promise<void> {
    if (config !== undefined) this.#notACommand(config);
    if (this.#program.args.length > 1) this.usage(`too many arguments: ${this.#program.args.join(' ')}`);
    const { runRelay } = await import('./run.ts');
    this.code = await runRelay(this.configPath(config));
  }

  /** Refuses a word that is no file: it was meant as a command. */
  #notACommand(word: string): void {
    if (!/^\w[\w-]*$/.test(word) || existsSync(word)) return;
    const near = nearest(
      word,
      this.#program.commands.map((command) => command.name()),
    );
    const hint = near === null ? 'see protorelay --help' : `did you mean ${near}?`;
    this.usage(`there is no command ${word}, nor a config file of that name (${hint})`);
  }

  endsWith(code: ExitCode): void {
    this.code = code;
  }

  configPath(positional?: string): string {
    const option = this.#program.opts().config as string | undefined;
    if (positional !== undefined && option !== undefined)
      this.usage('give the config file once: as --config or as an argument');
    return positional ?? option ?? join(ROOT, 'config/relay.json');
  }

  usage(message: string): never {
    return this.#program.error(`protorelay: ${message}`);
  }
}

/** What a command prints goes nowhere: `queue list | head` closes it, which is the end and no failure. */
function outputFailed({ code, message }: NodeJS.ErrnoException): never {
  if (code === 'EPIPE') process.exit(EXIT.ok);
  process.stderr.write(printableLines(`protorelay: standard output cannot be written: ${message}\n`));
  process.exit(EXIT.ioError);
}

async function printVersion(): Promise<void> {
  const { features } = await import('./config/features.ts');
  process.stdout.write(`${versionPage(features())}\n`);
}

async function main(): Promise<ExitCode> {
  const commandLine = new Protorelay();
  try {
    await commandLine.execute(process.argv.slice(2));
    return commandLine.code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (error instanceof RelayError) {
      process.stderr.write(printableLines(`protorelay: ${error.message}\n`));
      return EXIT_OF_ERROR[error.code];
    }
    process.stderr.write(
      printableLines(`protorelay: internal fault: ${(error as Error)?.stack ?? String(error)}\n`),
    );
    return EXIT.software;
  }
}

// Not process.exit(): output on its way to a pipe must arrive. A relay that ran exits by itself (run.ts).
process.exitCode = await main();
