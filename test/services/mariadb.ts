/**
 * A MariaDB server of a test's own: Debian's mariadbd on a free loopback port, its data in a temporary folder,
 * stopped by its pid. Nothing of the system's server, if there is one, is touched. MySQL's mysqld does as well, where
 * there is one: Debian 12 has no package of it.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Connection, createConnection } from 'mariadb';
import { configSchema, type ServerConfig } from '../../src/config/schema.ts';
import { freePort } from '../support/free-port.ts';
import { needs, programPath } from '../support/programs.ts';

const START_MS = 30_000;
const STOP_MS = 20_000;
const ROOT_PASSWORD = 'root-of-a-test';
/** What a relay is given: it may not change tables. */
const RELAY = { user: 'relay', password: 'a relay’s "secret"' };

/** The reason why no server can be started, else false: the `skip` option of node:test. */
export function skipWithoutMariaDb(): string | false {
  if (programPath('mariadbd') === null) return 'not installed: mariadbd (Debian package mariadb-server-core)';
  return shareFolder() === null ? 'the SQL files of mariadb-server-core are missing' : false;
}

/** The reason why no MySQL can be started, else false. A mysqld that is MariaDB by another name does not count. */
export function skipWithoutMysql(): string | false {
  const program = programPath('mysqld');
  if (program === null) return 'not installed: mysqld (MySQL 8 or later)';
  const { stdout } = spawnSync(program, ['--no-defaults', '--version'], { encoding: 'utf8' });
  return /mariadb/i.test(stdout) ? 'mysqld is MariaDB here' : false;
}

/** Where the server's messages and the SQL of its system tables lie. */
function shareFolder(): string | null {
  const program = programPath('mariadbd');
  if (program === null) return null;
  const bin = dirname(program);
  return (
    [join(bin, '../share/mysql'), join(bin, '../usr/share/mysql'), '/usr/share/mysql'].find((folder) =>
      existsSync(join(folder, 'mysql_system_tables.sql')),
    ) ?? null
  );
}

const SIZES = ['--innodb-buffer-pool-size=64M', '--innodb-log-file-size=48M'];

/** Its files are mostly empty: what is empty takes no place on disk. */
function copyFolder(from: string, to: string): void {
  const { status, stderr } = spawnSync('cp', ['-R', '--sparse=always', `${from}/.`, to], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`cp ended with ${status}: ${stderr}`);
}

const TABLES = [
  'mails',
  'mail_recipients',
  'attachments',
  'mail_headers',
  'mail_outbox',
  'relay_state',
  'relay_commits',
  'relay_nodes',
  'relay_journals',
  'relay_lives',
  'relay_suspensions',
  'suppressions',
  'user_shards',
];

/** The server as the config has it, everything else by default. */
export function serverConfig(access: DatabaseAccess): ServerConfig {
  const { database } = configSchema.parse({ database: { driver: 'mysql', ...access } });
  return database as ServerConfig;
}

export interface MariaDbOptions {
  /** More options of the server. */
  args?: string[];
  /** Default: mariadbd. */
  program?: 'mariadbd' | 'mysqld';
}

export interface DatabaseAccess {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
}

export class MariaDb {
  readonly folder = mkdtempSync(join(tmpdir(), 'mariadb-'));
  readonly host = '127.0.0.1';
  port = 0;
  readonly #args: string[];
  readonly #program: 'mariadbd' | 'mysqld';
  #server: ChildProcess | null = null;
  #databases = 0;

  private constructor(options: MariaDbOptions) {
    this.#args = options.args ?? [];
    this.#program = options.program ?? 'mariadbd';
  }

  static async start(options: MariaDbOptions = {}): Promise<MariaDb> {
    needs(options.program === 'mysqld' ? skipWithoutMysql() : skipWithoutMariaDb());
    const server = new MariaDb(options);
    try {
      server.#bootstrap();
      server.port = await freePort();
      await server.start();
      return server;
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  get pid(): number {
    return this.#server?.pid as number;
  }

  get running(): boolean {
    return this.#server !== null;
  }

  get socket(): string {
    return join(this.folder, 'sock');
  }

  get #dataFolder(): string {
    return join(this.folder, 'data');
  }

  #common(): string[] {
    if (this.#program === 'mysqld') {
      const user = process.getuid?.() === 0 ? ['--user=root'] : [];
      return ['--no-defaults', `--datadir=${this.#dataFolder}`, ...user];
    }
    const share = shareFolder() as string;
    const args = [`--basedir=${dirname(dirname(share))}`, `--lc-messages-dir=${share}`];
    args.push(`--character-sets-dir=${join(share, 'charsets')}`, `--datadir=${this.#dataFolder}`);
    // A server that starts removes what looks like another's leftovers there.
    args.push(`--tmpdir=${this.folder}`);
    if (process.getuid?.() === 0) args.push('--user=root');
    return ['--no-defaults', ...args, ...SIZES];
  }

  /** What mariadb-install-db does, without its helper programs. */
  #bootstrap(): void {
    if (this.#program === 'mysqld') this.#run([...this.#common(), '--initialize-insecure']);
    else this.#bootstrapMariaDb();
    const init = `ALTER USER root@localhost IDENTIFIED BY '${ROOT_PASSWORD}';
CREATE USER ${RELAY.user}@'127.0.0.1' IDENTIFIED BY '${RELAY.password}';
CREATE USER ${RELAY.user}@localhost IDENTIFIED BY '${RELAY.password}';
CREATE USER admin@'127.0.0.1' IDENTIFIED BY '${ROOT_PASSWORD}';
GRANT ALL ON *.* TO admin@'127.0.0.1' WITH GRANT OPTION;\n`;
    writeFileSync(join(this.folder, 'init.sql'), init);
  }

  #run(args: string[], input = ''): void {
    const { status, stderr } = spawnSync(programPath(this.#program) as string, args, { input });
    if (status !== 0) throw new Error(`${this.#program} to make its tables ended with ${status}: ${stderr}`);
  }

  /** Made once, and copied for each server: that takes a tenth of the time. */
  #bootstrapMariaDb(): void {
    const share = shareFolder() as string;
    const names = ['system_tables', 'performance_tables', 'system_tables_data'];
    const sql = names.map((name) => readFileSync(join(share, `mysql_${name}.sql`), 'utf8')).join('\n');
    const input = `CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n${sql}\n`;
    const key = createHash('sha256')
      .update([share, ...SIZES, input].join())
      .digest('hex')
      .slice(0, 16);
    const made = join(import.meta.dirname, `../../build/mariadb-${key}`);
    if (!existsSync(made)) {
      mkdirSync(this.#dataFolder);
      this.#run(
        [...this.#common(), '--bootstrap', '--log-warnings=0', '--innodb-flush-log-at-trx-commit=0'],
        input,
      );
      const copy = mkdtempSync(`${made}-`);
      copyFolder(this.#dataFolder, copy);
      try {
        renameSync(copy, made);
      } catch {
        rmSync(copy, { recursive: true }); // another test was first
      }
    } else copyFolder(made, this.#dataFolder);
  }

  /** Starts the server (again), with what its data folder holds. */
  async start(): Promise<void> {
    const init = join(this.folder, 'init.sql');
    const args = [
      ...this.#common(),
      `--port=${this.port}`,
      `--bind-address=${this.host}`,
      `--socket=${this.socket}`,
      `--pid-file=${join(this.folder, 'pid')}`,
      '--skip-name-resolve',
      '--innodb-flush-log-at-trx-commit=1',
      '--max-connections=200',
      ...(this.#program === 'mysqld' ? ['--mysqlx=OFF', '--secure-file-priv=NULL'] : []),
      ...this.#args,
    ];
    if (existsSync(init)) args.push(`--init-file=${init}`);
    const server = spawn(programPath(this.#program) as string, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#server = server;
    let said = '';
    server.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-4000);
    });
    const until = Date.now() + START_MS;
    for (;;) {
      if (server.exitCode !== null)
        throw new Error(`${this.#program} ended with ${server.exitCode}: ${said}`);
      const connection = await this.connect().catch(() => null);
      if (connection !== null) {
        await connection.end();
        break;
      }
      if (Date.now() > until)
        throw new Error(`${this.#program} does not answer on port ${this.port}: ${said}`);
      await sleep(50);
    }
    // The users were made once; the file would fail at the next start.
    rmSync(init, { force: true });
  }

  /** A connection that may do anything. */
  connect(database?: string): Promise<Connection> {
    return createConnection({
      host: this.host,
      port: this.port,
      user: 'admin',
      password: ROOT_PASSWORD,
      ...(database === undefined ? {} : { database }),
      connectTimeout: 2000,
      allowPublicKeyRetrieval: true,
      multipleStatements: true,
    });
  }

  /** An empty database, and what a relay needs to use it once it is migrated. */
  async createDatabase(): Promise<DatabaseAccess> {
    const database = `relay${++this.#databases}`;
    const connection = await this.connect();
    await connection.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
    for (const host of ['127.0.0.1', 'localhost'])
      await connection.query(
        `GRANT SELECT, INSERT, UPDATE, DELETE ON ${database}.* TO ${RELAY.user}@'${host}'`,
      );
    await connection.end();
    return { host: this.host, port: this.port, ...RELAY, database };
  }

  /** Takes all rows out, as if it was just migrated. */
  async empty({ database }: DatabaseAccess): Promise<void> {
    const connection = await this.connect(database);
    for (const table of TABLES) await connection.query(`DELETE FROM ${table}`);
    await connection.end();
  }

  /** What `db migrate` connects as. */
  admin(access: DatabaseAccess): DatabaseAccess {
    return { ...access, user: 'admin', password: ROOT_PASSWORD };
  }

  /** One question, asked over a connection of its own. */
  async query<T>(sql: string, values: unknown[] = []): Promise<T> {
    const connection = await this.connect();
    try {
      return (await connection.query(sql, values)) as T;
    } finally {
      await connection.end();
    }
  }

  /** Ends it as an operator would; kill() as a power cut would. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null || server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.kill(signal);
    const timer = setTimeout(() => server.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(timer);
  }

  /** Stops answering without closing a connection; its threads all stand still when this returns. */
  pause(): void {
    this.#server?.kill('SIGSTOP');
    while (threadStates(this.pid).some((state) => state !== 'T'));
  }

  resume(): void {
    this.#server?.kill('SIGCONT');
  }

  async close(): Promise<void> {
    this.resume();
    await this.#end('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** States of a process's threads, 'T' for stopped; [] where the system does not tell. */
function threadStates(pid: number): string[] {
  const folder = `/proc/${pid}/task`;
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((thread) => {
    try {
      return [/\) (\w)/.exec(readFileSync(join(folder, thread, 'stat'), 'utf8'))?.[1] ?? 'T'];
    } catch {
      return []; // it ended meanwhile
    }
  });
}
