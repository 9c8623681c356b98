/** Arguments, signals, exit codes. What a relay is made of is in relay.ts; what `queue` prints, in control/. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { RelayError } from './base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from './base/exit-codes.ts';
import { loadConfig } from './config/load.ts';
import { QUEUE_ACTIONS } from './control/protocol.ts';
import type { QueueOutput, QueueSource } from './control/queue-commands.ts';
import { versionPage } from './version.ts';

const ROOT = join(import.meta.dirname, '..');
const STATES = ['pending', 'sending', 'sent', 'retry', 'dead', 'held'];

/** What the command line asked for ends with this code. */
let exitCode: ExitCode = EXIT.ok;

const program = new Command('protorelay')
  .description('High-throughput SMTP relay. Without a command: starts the relay.')
  .helpOption('-h, --help', 'show this text')
  .option('-c, --config <path>', 'config file (default: config/relay.json of the installation)')
  .option('-V, --version', 'show version, commit, build time, platform, compiler, Node and features')
  .argument('[config]', 'config file, as with --config')
  .addHelpText(
    'after',
    '\nSignals: TERM and INT drain (twice: stop now), HUP reloads, USR1 reopens log files.\nExit codes: docs/exit-codes.md',
  )
  .exitOverride()
  .action(async (positional: string | undefined) => {
    if (program.opts().version === true) {
      const { features } = await import('./config/features.ts');
      process.stdout.write(`${versionPage(features())}\n`);
      return;
    }
    const { runRelay } = await import('./run.ts');
    exitCode = await runRelay(configPath(positional));
  });

const queue = program.command('queue').description('look into the queue and change it');

queue
  .command('list')
  .description('rows of the outbox: one a message and destination')
  .addOption(new Option('--state <state>', 'only rows in this state').choices(STATES))
  .option('--destination <name>', 'only rows of this destination (a domain, or smarthost)')
  .option('--sender <address>', 'only messages of this sender')
  .option('--recipient <address>', 'only messages to this recipient')
  .option('--limit <rows>', 'rows shown at most', wholeNumber, 100)
  .option('--json', 'print JSON', false)
  .action((options) =>
    onQueue(async (commands, source, output) => commands.listQueue(source, options, output)),
  );

queue
  .command('show <id>')
  .description('envelope, destinations, recipients and why they wait')
  .option('--json', 'print JSON', false)
  .action((id: string, { json }) =>
    onQueue((commands, source, output) => commands.showMail(source, id, json, output)),
  );

queue
  .command('cat <id>')
  .description('trace and content, byte for byte')
  .action((id: string) => onQueue((commands, source, output) => commands.catMail(source, id, output)));

queue
  .command('stats')
  .description('counts by state and destination')
  .option('--json', 'print JSON', false)
  .action(({ json }) => onQueue((commands, source, output) => commands.queueStats(source, json, output)));

const ACTIONS = {
  retry: 'make rows due now',
  hold: 'keep rows until they are released',
  release: 'let held rows go on',
  delete: 'remove rows; no DSN is sent',
} as const;

for (const action of QUEUE_ACTIONS) {
  queue
    .command(`${action} [ids...]`)
    .description(`${ACTIONS[action]} (of these messages, of a destination, or all)`)
    .option('--destination <name>', 'all rows of this destination')
    .option('--all', 'all rows', false)
    .option('--json', 'print JSON', false)
    .action((ids: string[], { destination, all, json }) => {
      const given = [ids.length > 0, destination !== undefined, all].filter(Boolean).length;
      if (given !== 1) usage(`queue ${action} needs message ids, or --destination, or --all`);
      const ofIds = ids.map((queueId) => ({ queueId }));
      const targets = all ? ['all' as const] : destination === undefined ? ofIds : [{ destination }];
      return onQueue((commands, source, output) =>
        commands.operateQueue(source, action, targets, json, output),
      );
    });
}

const config = program.command('config').description('check the config file, print its reference');

config
  .command('check [config]')
  .description('validate without starting: 0 good, 78 bad')
  .action((positional: string | undefined) => {
    const path = configPath(positional);
    const { warnings, files } = loadConfig(path);
    for (const warning of warnings) process.stdout.write(`warning: ${warning}\n`);
    process.stdout.write(`${files.join(', ')}: good\n`);
  });

config
  .command('reference')
  .description('print docs/configuration.md, made from the schema')
  .option('--schema', 'print config/relay.schema.json instead', false)
  .option('--write', 'write both files', false)
  .action(async (options) => {
    const { configurationPage, jsonSchema } = await import('./config/reference.ts');
    if (!options.write) {
      process.stdout.write(options.schema ? jsonSchema() : configurationPage());
      return;
    }
    writeFileSync(join(ROOT, 'docs/configuration.md'), configurationPage());
    writeFileSync(join(ROOT, 'config/relay.schema.json'), jsonSchema());
  });

function configPath(positional?: string): string {
  const option = program.opts().config as string | undefined;
  if (positional !== undefined && option !== undefined)
    usage('give the config file once: as --config or as an argument');
  return positional ?? option ?? join(ROOT, 'config/relay.json');
}

function usage(message: string): never {
  return program.error(`protorelay: ${message}`, { exitCode: EXIT.usage });
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.');
  return Number(text);
}

type QueueCommands = typeof import('./control/queue-commands.ts');

/** Runs a queue command on the running relay, or read-only on the database of a stopped one. */
async function onQueue(
  command: (commands: QueueCommands, source: QueueSource, output: QueueOutput) => Promise<ExitCode>,
): Promise<void> {
  const { config: settings } = loadConfig(configPath());
  const source = await queueSource(settings.data_dir, settings);
  // `queue list | head` closes our standard output: that is an end, not a failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) =>
    process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.ioError),
  );
  try {
    const output = { out: process.stdout, err: process.stderr, nowMs: Date.now() };
    exitCode = await command(await import('./control/queue-commands.ts'), source, output);
  } finally {
    source.close();
  }
}

async function queueSource(
  dataDir: string,
  settings: ReturnType<typeof loadConfig>['config'],
): Promise<QueueSource> {
  const { ControlClient } = await import('./control/client.ts');
  const client = await ControlClient.connect(join(dataDir, 'control.sock'));
  if (client !== null) return { reader: client, client, close: () => client.close() };
  if (settings.database.path === ':memory:' || !existsSync(settings.database.path)) {
    throw new RelayError(
      'database-unavailable',
      `no relay is running on ${dataDir}, and there is no queue on disk`,
    );
  }
  const { openStoppedQueue } = await import('./database/sqlite/stopped-queue.ts');
  const stopped = openStoppedQueue(settings);
  return { reader: stopped, client: null, close: () => stopped.close() };
}

async function main(): Promise<ExitCode> {
  try {
    await program.parseAsync();
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (!(error instanceof RelayError)) throw error;
    process.stderr.write(`protorelay: ${error.message}\n`);
    return EXIT_OF_ERROR[error.code];
  }
}

// Not process.exit(): output on its way to a pipe must arrive. A relay that ran exits by itself (run.ts).
process.exitCode = await main();
