/** Arguments, signals, exit codes. What a relay is made of is in relay.ts; what `queue` prints, in control/. */
import { existsSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { SCHEMES } from './auth/schemes.ts';
import type { UserCommandPorts } from './auth/user-commands.ts';
import type { UserServerAccess } from './auth/user-server-store.ts';
import type { UserStore } from './auth/user-store.ts';
import { RelayError } from './base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from './base/exit-codes.ts';
import { parseNetwork } from './base/ip.ts';
import { printableLines } from './base/printable.ts';
import { dataDirOf, loadConfig } from './config/load.ts';
import type { ServerConfig } from './config/schema.ts';
import { nearest } from './config/shape.ts';
import { type BanBook, QUEUE_ACTIONS } from './control/protocol.ts';
import type { QueueOutput, QueueSource } from './control/queue-commands.ts';
import { loadWithFiles } from './load-with-files.ts';
import { destinationKey } from './mail/destination.ts';
import { openQueue, openShards } from './open-queue.ts';
import { versionPage } from './version.ts';

const ROOT = join(import.meta.dirname, '..');
const STATES = ['pending', 'sending', 'sent', 'retry', 'dead', 'held'];
const CONFIG = new Option(
  '-c, --config <path>',
  'config file (default: config/relay.json of the installation)',
);
const EPILOGUE = `
Signals: TERM and INT drain (a second one stops now), HUP reloads the config, USR1 reopens log files.
Exit codes: 0 done, 64 usage, 65 no such message or user, or damaged queue, 69 cannot listen or not running, 70 internal fault,
73 cannot create, 74 disk, 75 try later, 78 bad config (docs/exit-codes.md).`;

type UserCommands = typeof import('./auth/user-commands.ts');
type QueueCommands = typeof import('./control/queue-commands.ts');
type BanCommands = typeof import('./control/ban-commands.ts');

/** The command line: parses, does what it says, and keeps the exit code. */
class CommandLine {
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
      })
      .option('-V, --version', 'show version, commit, build time, platform, compiler, Node and features')
      .argument('[config]', 'config file, as with --config')
      .addHelpText('after', EPILOGUE)
      .configureOutput({ writeErr: (text) => void process.stderr.write(printableLines(text)) })
      .exitOverride()
      .action((config: string | undefined, options) =>
        options.version ? printVersion() : this.#run(config),
      );
    this.#addQueue();
    this.#addBans();
    this.#addUser();
    this.#addDatabase();
    this.#addConfig();
    this.#addReload();
    this.#addTls();
    // Not before: commands would inherit it. Here the first word says what was meant by several.
    this.#program.allowExcessArguments();
  }

  /** @throws CommanderError, RelayError */
  async execute(args: readonly string[]): Promise<void> {
    await this.#program.parseAsync(args, { from: 'user' });
  }

  async #run(config: string | undefined): Promise<void> {
    if (config !== undefined) this.#notACommand(config);
    if (this.#program.args.length > 1) this.#usage(`too many arguments: ${this.#program.args.join(' ')}`);
    const { runRelay } = await import('./run.ts');
    this.code = await runRelay(this.#configPath(config));
  }

  /** A word that is no file was meant as a command. */
  #notACommand(word: string): void {
    if (!/^\w[\w-]*$/.test(word) || existsSync(word)) return;
    const near = nearest(
      word,
      this.#program.commands.map((command) => command.name()),
    );
    const hint = near === null ? 'see protorelay --help' : `did you mean ${near}?`;
    this.#usage(`there is no command ${word}, nor a config file of that name (${hint})`);
  }

  #addQueue(): void {
    const queue = this.#program
      .command('queue')
      .description('look into the queue and change it')
      .helpCommand(false);
    queue
      .command('list')
      .description('rows of the outbox: one a message and destination')
      .addOption(
        new Option(
          '--state <state>',
          'only rows in this state: pending, sending, sent, retry, dead, held',
        ).argParser(stateOf),
      )
      .option('--destination <name>', 'only rows of this destination (a domain, or smarthost)', destinationOf)
      .option('--sender <address>', 'only messages of this sender; <> for the null one', addressOf)
      .option('--recipient <address>', 'only messages to this recipient', addressOf)
      .option('--limit <rows>', 'rows shown at most', wholeNumber, 100)
      .option('--json', 'print JSON', false)
      .action((options) => this.#onQueue((c, source, output) => c.listQueue(source, options, output)));
    queue
      .command('show <id>')
      .description('envelope, destinations, recipients and why they wait')
      .option('--json', 'print JSON', false)
      .action((id: string, { json }) =>
        this.#onQueue((c, source, output) => c.showMail(source, id, json, output)),
      );
    queue
      .command('cat <id>')
      .description('trace and content, byte for byte')
      .action((id: string) => this.#onQueue((c, source, output) => c.catMail(source, id, output)));
    queue
      .command('stats')
      .description('counts by state and destination')
      .option('--json', 'print JSON', false)
      .action(({ json }) => this.#onQueue((c, source, output) => c.queueStats(source, json, output)));
    this.#addActions(queue);
  }

  #addActions(queue: Command): void {
    const meaning = {
      retry: 'make waiting rows due now',
      hold: 'keep waiting rows until they are released',
      release: 'let held rows go on',
      delete: 'remove rows that are not being sent; no DSN goes out',
    };
    for (const action of QUEUE_ACTIONS) {
      queue
        .command(`${action} [ids...]`)
        .description(`${meaning[action]}: of these messages, of a destination, or all`)
        .option('--destination <name>', 'all rows of this destination', destinationOf)
        .option('--all', 'all rows', false)
        .option('--json', 'print JSON', false)
        .action((ids: string[], { destination, all, json }) => {
          const given = [ids.length > 0, destination !== undefined, all].filter(Boolean).length;
          if (given !== 1) this.#usage(`queue ${action} needs message ids, or --destination, or --all`);
          const target = all ? 'all' : destination === undefined ? ids : { destination: String(destination) };
          return this.#onQueue((c, source, output) => c.operateQueue(source, action, target, json, output));
        });
    }
  }

  #addBans(): void {
    const ban = this.#program.command('ban').description('clients that are not served').helpCommand(false);
    ban
      .command('list')
      .description('who is banned, why, and until when')
      .option('--json', 'print JSON', false)
      .action(({ json }) => this.#onBans((c, bans) => c.listBans(bans, json, process.stdout)));
    ban
      .command('add')
      .argument('<networks...>', 'as 192.0.2.1 or 2001:db8::/64', networksOf)
      .description('ban addresses or networks')
      .option(
        '--for <time>',
        'how long, as 90s, 10m, 12h or 7d; without it until it is deleted',
        duration,
        null,
      )
      .action((networks: string[], { for: durationMs }) =>
        this.#onBans((c, bans) => c.addBans(bans, networks, durationMs, process.stdout)),
      );
    ban
      .command('delete')
      .argument('<networks...>', 'as 192.0.2.1 or 2001:db8::/64', networksOf)
      .description('serve them again: addresses or networks as `ban list` shows them')
      .action((networks: string[]) =>
        this.#onBans((c, bans) => c.deleteBans(bans, networks, process.stdout, process.stderr)),
      );
  }

  /** Through the running relay, or on the file of a stopped one. */
  async #onBans(command: (commands: BanCommands, bans: BanBook) => Promise<ExitCode>): Promise<void> {
    const dataDir = dataDirOf(this.#configPath());
    const { ControlClient } = await import('./control/client.ts');
    const client = await ControlClient.connect(join(dataDir, 'control.sock'));
    const commands = await import('./control/ban-commands.ts');
    if (client !== null) {
      this.code = await command(commands, client.bans).finally(() => client.close());
      return;
    }
    const { StoppedBans } = await import('./policy/stopped-bans.ts');
    const { lockDataDir } = await import('./base/data-dir.ts');
    const lock = lockDataDir(dataDir);
    try {
      this.code = await command(commands, new StoppedBans(dataDir, Date.now));
    } finally {
      lock.release();
    }
  }

  #addUser(): void {
    const user = this.#program
      .command('user')
      .description('users of AUTH, in the first file or table of auth.backends');
    user.helpCommand(false);
    const scheme = (): Option =>
      new Option('--scheme <scheme>', 'kind of hash; SCRAM needs scram-sha-256 (or plain), CRAM-MD5 plain')
        .choices(SCHEMES)
        .default(SCHEMES[0]);
    const path = (): Option =>
      new Option('--path <file>', 'the backend with this path, where there are several');
    const ofQueue = (): Option =>
      new Option('--of-queue', 'the table in the database of the queue, where there are several').conflicts(
        'path',
      );
    user
      .command('add <name> [rules...]')
      .description('add a user; rules as senders=@example.com or messages_per_day=500')
      .addOption(scheme())
      .addOption(path())
      .addOption(ofQueue())
      .action((name: string, words: string[], options) =>
        this.#onUsers(options, (c, store, ports) =>
          c.addUser(store, name, { words, scheme: options.scheme }, ports),
        ),
      );
    user
      .command('passwd <name>')
      .description('set the password of a user')
      .addOption(scheme())
      .addOption(path())
      .addOption(ofQueue())
      .action((name: string, options) =>
        this.#onUsers(options, (c, store, ports) => c.changePassword(store, name, options, ports)),
      );
    user
      .command('delete <name>')
      .description('remove a user')
      .addOption(path())
      .addOption(ofQueue())
      .action((name: string, options) =>
        this.#onUsers(options, async (c, store, ports) => c.deleteUser(store, name, ports)),
      );
    user
      .command('list')
      .description('names, kinds of hash and rules')
      .option('--json', 'print JSON', false)
      .addOption(path())
      .addOption(ofQueue())
      .action((options) =>
        this.#onUsers(options, async (c, store, ports) => c.listUsers(store, options.json, ports)),
      );
  }

  async #onUsers(
    { path, ofQueue }: { path?: string; ofQueue?: boolean },
    command: (commands: UserCommands, store: UserStore, ports: UserCommandPorts) => Promise<ExitCode>,
  ): Promise<void> {
    const { config } = loadConfig(this.#configPath());
    const commands = await import('./auth/user-commands.ts');
    const { openUserStore } = await import('./auth/user-store.ts');
    let store: UserStore | null = null;
    try {
      const chosen = { ofQueue, path: path === undefined ? undefined : resolve(config.data_dir, path) };
      store = openUserStore(config, chosen, await usersOnServers());
      const ports = { out: process.stdout, err: process.stderr, password: commands.readPassword };
      this.code = await command(commands, store, ports);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (error instanceof RelayError || typeof code !== 'string') throw error;
      throw new RelayError(
        'data-dir-unusable',
        `users cannot be changed: ${message}; check the file, its folder and their owner`,
        error,
      );
    } finally {
      await store?.close();
    }
  }

  #addDatabase(): void {
    const db = this.#program
      .command('db')
      .description('MariaDB and MySQL databases of the queue')
      .helpCommand(false);
    db.command('migrate')
      .description(
        'make the tables, or bring them up to date, on every shard; to a newer schema only while no relay runs',
      )
      .option('--user <name>', 'connect as this user, who may change tables (default: the relay’s)')
      .option('--password-env <name>', 'environment variable with its password', 'PROTORELAY_DB_PASSWORD')
      .action(async ({ user, passwordEnv }: { user?: string; passwordEnv: string }) => {
        const { migrateShards } = await import('./control/db-commands.ts');
        const password = process.env[passwordEnv];
        if (user !== undefined && password === undefined)
          this.#usage(`set the environment variable ${passwordEnv} to the password of ${user}`);
        const { database } = loadConfig(this.#configPath()).config;
        const { shardServers } = await import('./database/shard-servers.ts');
        const { migrate } = await import('./database/mysql/schema.ts');
        const servers = shardServers(database).map(({ name, server }) => ({
          name,
          server: user === undefined ? server : { ...server, user, password: password ?? '' },
        }));
        this.code = await migrateShards(servers, migrate, process.stdout, process.stderr);
      });
    db.command('shards')
      .description('state, depth, latency and errors of every shard')
      .option('--json', 'print JSON', false)
      .action(async ({ json }: { json: boolean }) => {
        const { showShards } = await import('./control/db-commands.ts');
        const path = this.#configPath();
        const source = await openShards(dataDirOf(path), () => loadConfig(path).config);
        try {
          this.code = showShards(await source.report(), json, process.stdout, Date.now());
        } finally {
          await source.close();
        }
      });
  }

  #addConfig(): void {
    const config = this.#program.command('config').description('check the config file, print its reference');
    config
      .helpCommand(false)
      .command('check [config]')
      .description('validate without starting: 0 good, 78 bad')
      .action(async (path: string | undefined) => {
        const { warnings, files } = await loadWithFiles(this.#configPath(path));
        for (const warning of warnings) process.stdout.write(printableLines(`warning: ${warning}\n`));
        process.stdout.write(printableLines(`${files.join(', ')}: good\n`));
      });
    config
      .command('reference')
      .description('print docs/configuration.md, made from the schema')
      .option('--schema', 'print config/relay.schema.json instead', false)
      .option('--write', 'write both files', false)
      .action(({ schema, write }) => printReference(schema, write));
  }

  #addReload(): void {
    this.#program
      .command('reload')
      .description('make the running relay read its config and certificates again, as SIGHUP does')
      .action(async () => {
        const { reloadRunning } = await import('./control/reload-command.ts');
        const controlPath = join(dataDirOf(this.#configPath()), 'control.sock');
        this.code = await reloadRunning(controlPath, process.stdout, process.stderr);
      });
  }

  #addTls(): void {
    const tls = this.#program.command('tls').description('certificates').helpCommand(false);
    tls
      .command('self-signed')
      .description('make a certificate for trying TLS: server.crt and server.key')
      .argument('[names...]', 'host names and addresses (default: this machine’s name and localhost)')
      .option('--out <folder>', 'where to write them', '.')
      .option('--days <days>', 'how long it is good', wholeNumber, 365)
      .addOption(new Option('--key <type>', 'type of key').choices(['ecdsa', 'rsa']).default('ecdsa'))
      .option('--force', 'replace what is there', false)
      .action(async (given: string[], { out, days, key, force }) => {
        const { isCertificateName, writeSelfSigned } = await import('./tls/self-signed.ts');
        for (const name of given)
          if (!isCertificateName(name)) this.#usage(`"${name}" is neither a host name nor an address`);
        const names = given.length > 0 ? given : [hostname(), 'localhost', '127.0.0.1', '::1'];
        const said = writeSelfSigned({ names, days, keyType: key, folder: out, force });
        process.stdout.write(printableLines(said));
      });
  }

  #configPath(positional?: string): string {
    const option = this.#program.opts().config as string | undefined;
    if (positional !== undefined && option !== undefined)
      this.#usage('give the config file once: as --config or as an argument');
    return positional ?? option ?? join(ROOT, 'config/relay.json');
  }

  #usage(message: string): never {
    return this.#program.error(`protorelay: ${message}`);
  }

  /** Runs a queue command on the running relay, or read-only on the database of a stopped one. */
  async #onQueue(
    command: (commands: QueueCommands, source: QueueSource, output: QueueOutput) => Promise<ExitCode>,
  ): Promise<void> {
    const path = this.#configPath();
    const source = await openQueue(dataDirOf(path), () => loadConfig(path).config);
    // `queue list | head` closes our standard output: that is an end, not a failure.
    process.stdout.on('error', (error: NodeJS.ErrnoException) =>
      process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.ioError),
    );
    try {
      const output = { out: process.stdout, err: process.stderr, nowMs: Date.now() };
      this.code = await command(await import('./control/queue-commands.ts'), source, output);
    } finally {
      source.close();
    }
  }
}

/** How tables of users on a server are reached. */
async function usersOnServers(): Promise<(server: ServerConfig) => UserServerAccess> {
  const { connect, connectionOptions, serverName } = await import('./database/mysql/connection.ts');
  const { Endpoints } = await import('./database/mysql/endpoints.ts');
  const { mysqlError } = await import('./database/mysql/errors.ts');
  const { USERS_SESSION } = await import('./auth/user-server.ts');
  const open = (server: ServerConfig) =>
    connect({
      ...connectionOptions(server),
      initSql: USERS_SESSION,
      socketTimeout: server.query_timeout_ms,
    });
  return (server) => ({
    name: serverName(server),
    connect: () => new Endpoints(server, { connect: open }).open(),
    explain: (error) => mysqlError(error, serverName(server)),
  });
}

async function printVersion(): Promise<void> {
  const { features } = await import('./config/features.ts');
  process.stdout.write(`${versionPage(features())}\n`);
}

async function printReference(schema: boolean, write: boolean): Promise<void> {
  const { configurationPage, jsonSchema } = await import('./config/reference.ts');
  if (write) {
    writeFileSync(join(ROOT, 'docs/configuration.md'), configurationPage());
    writeFileSync(join(ROOT, 'config/relay.schema.json'), jsonSchema());
  } else process.stdout.write(schema ? jsonSchema() : configurationPage());
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.');
  return Number(text);
}

/** '90s', '10m', '12h', '7d' in milliseconds. */
function duration(text: string): number {
  const [, count = '', unit = ''] = /^([1-9]\d{0,5})([smhd])$/.exec(text) ?? [];
  if (count === '') throw new InvalidArgumentError('It is a number and s, m, h or d, as 12h.');
  return Number(count) * { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit as 's'];
}

/** As an operator writes a destination, as a key. An empty one is a variable of a script that was not set. */
function destinationOf(text: string): string {
  if (text === '') throw new InvalidArgumentError('It must not be empty.');
  return destinationKey(text);
}

/** Also as `queue list` shows it, in angle brackets. */
const addressOf = (text: string): string => /^<(.*)>$/.exec(text)?.[1] ?? text;

/** All of them, before anything is done about the first. */
function networksOf(text: string, before: string[] = []): string[] {
  if (parseNetwork(text) === null)
    throw new InvalidArgumentError('It is no address or network; write 192.0.2.1 or 2001:db8::/64.');
  return [...before, text];
}

function stateOf(text: string): string {
  if (!STATES.includes(text.toLowerCase()))
    throw new InvalidArgumentError(`It is one of ${STATES.join(', ')}.`);
  return text.toUpperCase();
}

async function main(): Promise<ExitCode> {
  const commandLine = new CommandLine();
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
