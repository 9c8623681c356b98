/** Arguments, exit codes, and the table of command groups. Commands are in cli/; what a relay is made of is in relay/. */
import { join } from 'node:path';
import { type Command, CommanderError } from 'commander';
import { RelayError } from './base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from './base/exit-codes.ts';
import { printableLines } from './base/printable.ts';
import type { CommandLine } from './cli/command-line.ts';
import { newProgram, refuseUnknown } from './cli/program.ts';
import { versionPage } from './version.ts';

type AddGroup = (program: Command, line: CommandLine) => void;

const ROOT = join(import.meta.dirname, '..');
/** Commands in the order of the help. Only what is named is loaded: most of a short command's time is loading. */
const GROUPS: readonly [names: readonly string[], load: () => Promise<AddGroup>][] = [
  [['status'], async () => (await import('./cli/status.ts')).addStatus],
  [['queue'], async () => (await import('./cli/queue.ts')).addQueue],
  [['suspend', 'resume', 'suspensions'], async () => (await import('./cli/suspensions.ts')).addSuspensions],
  [['suppression'], async () => (await import('./cli/suppression.ts')).addSuppression],
  [['events'], async () => (await import('./cli/events.ts')).addEvents],
  [['ban'], async () => (await import('./cli/ban.ts')).addBans],
  [['user'], async () => (await import('./cli/user.ts')).addUser],
  [['db'], async () => (await import('./cli/db.ts')).addDatabase],
  [['config'], async () => (await import('./cli/config.ts')).addConfig],
  [['reload'], async () => (await import('./cli/reload.ts')).addReload],
  [['replies'], async () => (await import('./cli/replies.ts')).addReplies],
  [['shaping'], async () => (await import('./cli/shaping.ts')).addShaping],
  [['source'], async () => (await import('./cli/source.ts')).addSources],
  [['route'], async () => (await import('./cli/route.ts')).addRoute],
  [['warmup'], async () => (await import('./cli/warmup.ts')).addWarmUp],
  [['lint'], async () => (await import('./cli/lint.ts')).addLint],
  [['tls'], async () => (await import('./cli/tls.ts')).addTls],
  [['token'], async () => (await import('./cli/token.ts')).addTokens],
  [['dkim'], async () => (await import('./cli/dkim.ts')).addDkim],
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
  }

  /** @throws CommanderError, RelayError */
  async execute(args: readonly string[]): Promise<void> {
    const named = GROUPS.filter(([names]) => names.some((name) => args.includes(name)));
    const help = args.includes('-h') || args.includes('--help');
    const groups = named.length === 0 && help ? GROUPS : named;
    for (const [, load] of groups) (await load())(this.#program, this);
    // Not before: commands would inherit it. Here the first word says what was meant by several.
    this.#program.allowExcessArguments();
    await this.#program.parseAsync(args, { from: 'user' });
  }

  async #run(config: string | undefined): Promise<void> {
    if (config !== undefined)
      refuseUnknown(
        config,
        GROUPS.flatMap(([names]) => names),
        this,
      );
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
