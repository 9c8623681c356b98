/** Arguments, exit codes, and the table of command groups. Commands are in cli/; what a relay is made of is in relay/. */
import { join } from 'node:path';
import { CommanderError } from 'commander';
import { RelayError } from './base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from './base/exit-codes.ts';
import { printableLines } from './base/printable.ts';
import { addBans } from './cli/ban.ts';
import type { CommandLine } from './cli/command-line.ts';
import { addConfig } from './cli/config.ts';
import { addDatabase } from './cli/db.ts';
import { addDkim } from './cli/dkim.ts';
import { addEvents } from './cli/events.ts';
import { addLint } from './cli/lint.ts';
import { newProgram, refuseUnknown } from './cli/program.ts';
import { addQueue } from './cli/queue.ts';
import { addReload } from './cli/reload.ts';
import { addReplies } from './cli/replies.ts';
import { addRoute } from './cli/route.ts';
import { addShaping } from './cli/shaping.ts';
import { addSources } from './cli/source.ts';
import { addStatus } from './cli/status.ts';
import { addSuppression } from './cli/suppression.ts';
import { addSuspensions } from './cli/suspensions.ts';
import { addTls } from './cli/tls.ts';
import { addTokens } from './cli/token.ts';
import { addUser } from './cli/user.ts';
import { addWarmUp } from './cli/warmup.ts';
import { versionPage } from './version.ts';

const ROOT = join(import.meta.dirname, '..');
const GROUPS = [
  addStatus,
  addQueue,
  addSuspensions,
  addSuppression,
  addEvents,
  addBans,
  addUser,
  addDatabase,
  addConfig,
  addReload,
  addReplies,
  addShaping,
  addSources,
  addRoute,
  addWarmUp,
  addLint,
  addTls,
  addTokens,
  addDkim,
];
/** The command line: parses it, does what it says, and keeps the exit code. */
class Protorelay implements CommandLine {
  code: ExitCode = EXIT.ok;
  readonly out = process.stdout;
  readonly err = process.stderr;
  readonly #program = newProgram(this.out, this.err);

  constructor() {
    this.#program.action((config: string | undefined, options) =>
      options.version ? printVersion() : this.#run(config),
    );
    for (const add of GROUPS) add(this.#program, this);
    // Not before: commands would inherit it. Here the first word says what was meant by several.
    this.#program.allowExcessArguments();
  }

  /** @throws CommanderError, RelayError */
  async execute(args: readonly string[]): Promise<void> {
    await this.#program.parseAsync(args, { from: 'user' });
  }

  async #run(config: string | undefined): Promise<void> {
    if (config !== undefined) refuseUnknown(config, this.#program, this);
    if (this.#program.args.length > 1) this.usage(`too many arguments: ${this.#program.args.join(' ')}`);
    const { runRelay } = await import('./run.ts');
    this.code = await runRelay(this.configPath(config));
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
