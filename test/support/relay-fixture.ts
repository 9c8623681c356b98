/**
 * A real relay for tests and benchmarks: `node src/main.ts -c CONFIG` in its own process group, on a data folder
 * of its own, listening on free ports it reports itself. Ends it by pid only. Sleeps nowhere: start, stop and
 * events are waited for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { EntryAnswer } from '../../src/control/queue-answers.ts';
import { type Ran, run } from './child.ts';
import { assertDeclared } from './declared-line.ts';
import { EventTail } from './event-tail.ts';
import { PATIENCE } from './wait.ts';

const ROOT = resolve(import.meta.dirname, '../..');
export const MAIN = join(ROOT, 'src/main.ts');

/** Configuration as in config/relay.json; nested objects are merged over the fixture's own. */
export type Settings = { [key: string]: unknown };

export interface ListenAddress {
  host?: string;
  port?: number;
  path?: string;
}

export interface FixtureOptions {
  /** Folder for config and data; default: a new one in the temporary folder, removed by `destroy`. */
  dir?: string;
  /** Milliseconds until the relay must be ready. */
  readyMs?: number;
  /** Extra environment (libfaketime, thread pool …). */
  env?: Record<string, string>;
  /** Program and arguments put before node, as `['faketime', '-1d']`. */
  wrapper?: string[];
}

export class RelayFixture {
  readonly dir: string;
  readonly configPath: string;
  readonly dataDir: string;
  readonly events: EventTail;
  /** Log lines of all lives of the relay, newest last (bounded). */
  readonly log: Record<string, unknown>[] = [];
  /** The same, as it was written. */
  readonly rawLog: string[] = [];
  stderr = '';
  addresses: ListenAddress[] = [];
  settings: Settings;
  #child: ChildProcess | null = null;
  #exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }> | null = null;
  readonly #options: FixtureOptions;
  readonly #logWaiters = new Set<(line: Record<string, unknown>) => void>();

  constructor(settings: Settings = {}, options: FixtureOptions = {}) {
    this.#options = options;
    this.dir = options.dir ?? mkdtempSync(join(tmpdir(), 'protorelay-'));
    this.configPath = join(this.dir, 'relay.json');
    this.settings = merge(
      {
        hostname: 'relay.test',
        data_dir: 'data',
        listeners: [{ host: '127.0.0.1', port: 0 }],
        persist_min_available_memory_mb: 64,
        persist_min_free_disk_mb: 16,
        delivery: { refuse_loopback_mx: false },
        log: { level: 'info', format: 'json', file: null },
      },
      settings,
    );
    this.dataDir = resolve(this.dir, String(this.settings.data_dir));
    this.events = new EventTail(join(this.dataDir, 'events'));
    this.writeConfig();
  }

  /** Starts a relay and waits until it is ready. */
  static async start(settings: Settings = {}, options: FixtureOptions = {}): Promise<RelayFixture> {
    const relay = new RelayFixture(settings, options);
    await relay.start();
    return relay;
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error('the relay is not running');
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#child !== null;
  }

  /** Port of the first TCP listener. */
  get port(): number {
    const port = this.addresses.find((address) => address.port !== undefined)?.port;
    if (port === undefined) throw new Error('the relay has no TCP listener');
    return port;
  }

  writeConfig(settings: Settings = this.settings): void {
    this.settings = settings;
    writeFileSync(this.configPath, JSON.stringify(settings, null, 2));
  }

  /** Changes keys of the configuration file; takes effect at the next start or `reload`. */
  configure(changes: Settings): void {
    this.writeConfig(merge(this.settings, changes));
  }

  /** Starts (again) and waits for the relay's ready line. Rejects with its output when it ends before. */
  async start(): Promise<void> {
    this.launch();
    const child = this.#child as ChildProcess;
    const ready = this.logLine('relay.ready', undefined, this.#options.readyMs ?? 20_000);
    const failed = (this.#exited as Promise<{ code: number | null }>).then(({ code }) => {
      throw new Error(`the relay ended with code ${code} before it was ready:\n${this.output()}`);
    });
    const line = await Promise.race([ready, failed]).catch(async (error: unknown) => {
      ready.catch(() => {});
      if (this.#child === child) await this.kill();
      throw error;
    });
    failed.catch(() => {});
    this.addresses = (line.addresses ?? []) as ListenAddress[];
  }

  /** Starts without waiting: for tests of a start that must fail. */
  launch(): void {
    if (this.#child !== null) throw new Error('the relay runs already');
    const command = [...(this.#options.wrapper ?? []), process.execPath, MAIN, '-c', this.configPath];
    const child = spawn(command[0] as string, command.slice(1), {
      cwd: ROOT,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      // As bin/protorelay starts it: types are stripped once and kept.
      env: { NODE_COMPILE_CACHE: join(ROOT, 'build/compile-cache'), ...process.env, ...this.#options.env },
    });
    this.#child = child;
    // Whatever ends us must not leave a relay behind.
    const orphaned = (): void => void (child.pid !== undefined && process.kill(-child.pid, 'SIGKILL'));
    process.once('exit', orphaned);
    createInterface({ input: child.stdout }).on('line', (line) => this.#takeLogLine(line));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-20_000);
    });
    this.#exited = new Promise((settle) => {
      child.once('error', () => settle({ code: 127, signal: null }));
      child.once('close', (code, signal) => {
        process.off('exit', orphaned);
        if (this.#child === child) this.#child = null;
        settle({ code, signal });
      });
    });
  }

  /** Waits for the end of the process: its exit code or signal. */
  async exited(timeoutMs = 20_000): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    if (this.#exited === null) throw new Error('the relay was never started');
    return bounded(this.#exited, timeoutMs, () => `the relay did not end:\n${this.output()}`);
  }

  /** After `launch`: its ready line, or how it ended before. */
  readyOrEnded(
    timeoutMs = 20_000,
  ): Promise<Record<string, unknown> | { code: number | null; signal: NodeJS.Signals | null }> {
    if (this.#exited === null) throw new Error('the relay was never started');
    let waiter: (line: Record<string, unknown>) => void = () => {};
    const ready = new Promise<Record<string, unknown>>((settle) => {
      waiter = (line) => {
        if (logEventName(line) === 'relay.ready') settle(line);
      };
      this.#logWaiters.add(waiter);
    });
    const either = Promise.race([ready, this.#exited]).finally(() => this.#logWaiters.delete(waiter));
    return bounded(either, timeoutMs, () => `the relay neither started nor ended:\n${this.output()}`);
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }

  /** SIGTERM, then waits: the graceful end. */
  async stop(timeoutMs = 25_000): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    this.signal('SIGTERM');
    return this.exited(timeoutMs);
  }

  /** kill -9 of the whole process group, as a power cut would. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    process.kill(-child.pid, 'SIGKILL');
    await this.#exited;
  }

  /** Ends the relay if it runs and removes its folder. For `t.after`. */
  async destroy(): Promise<void> {
    await this.kill();
    this.events.close();
    if (this.#options.dir === undefined) rmSync(this.dir, { recursive: true, force: true });
  }

  /** SIGHUP, then waits for the log to say that the reload is done. */
  async reload(): Promise<Record<string, unknown>> {
    const done = this.logLine('relay.reloaded');
    this.signal('SIGHUP');
    return done;
  }

  /** The next log line of this event (not one already seen), with a field test if given. */
  logLine(
    event: string,
    matches: (line: Record<string, unknown>) => boolean = () => true,
    timeoutMs = 15_000,
  ): Promise<Record<string, unknown>> {
    let waiter: (line: Record<string, unknown>) => void = () => {};
    const found = new Promise<Record<string, unknown>>((settle) => {
      waiter = (line) => {
        if (logEventName(line) === event && matches(line)) settle(line);
      };
      this.#logWaiters.add(waiter);
    });
    return bounded(found, timeoutMs, () => `no log line ${event}:\n${this.output()}`).finally(() =>
      this.#logWaiters.delete(waiter),
    );
  }

  /** `protorelay status`. */
  status(...args: string[]): Promise<Ran> {
    return this.command('status', ...args);
  }

  /** `protorelay db compact`. */
  compact(): Promise<Ran> {
    return run(process.execPath, [MAIN, 'db', 'compact', '-c', this.configPath], { cwd: ROOT });
  }

  /** The queue command of the CLI, on this relay. */
  queue(...args: string[]): Promise<Ran> {
    return this.command('queue', ...args);
  }

  /** A command about status, queue or suspensions, on this relay. */
  async command(...args: string[]): Promise<Ran> {
    const { runHere } = await import('./command-line.ts');
    return runHere(this.configPath, args);
  }

  /** The same with --json, its output read; throws when the command failed, or says that something is missing. */
  async queueJson<T>(...args: string[]): Promise<T> {
    return (await this.#queueJson<T>([0], args)).answer;
  }

  /** Where something may be missing in the answer: then the code is 75. */
  queuePartJson<T>(...args: string[]): Promise<{ code: number; answer: T }> {
    return this.#queueJson<T>([0, 75], args);
  }

  async #queueJson<T>(codes: readonly number[], args: string[]): Promise<{ code: number; answer: T }> {
    const { code, stdout, stderr } = await this.queue(...args, '--json');
    if (code === null || !codes.includes(code) || stdout === '')
      throw new Error(`queue ${args.join(' ')} ended with ${code}: ${stderr}`);
    return { code, answer: JSON.parse(stdout) as T };
  }

  /** What `queue list` shows. */
  async queueEntries(...args: string[]): Promise<EntryAnswer[]> {
    return (await this.queueJson<{ entries: EntryAnswer[] }>('list', ...args)).entries;
  }

  /** Last log lines and standard error, for messages of failed tests. */
  output(): string {
    const lines = this.log.slice(-15).map((line) => JSON.stringify(line));
    return `${lines.join('\n')}\n${this.stderr}`;
  }

  #takeLogLine(text: string): void {
    let line: Record<string, unknown>;
    try {
      line = JSON.parse(text) as Record<string, unknown>;
    } catch {
      // The text form: `TIME LEVEL event …`.
      line = { text, event: /^\S+ [A-Z]+ +(\S+)/.exec(text)?.[1] };
    }
    // Without a level it is not the log's, but what a preload of the test prints.
    if ('level' in line) assertDeclared(line);
    this.rawLog.push(text);
    if (this.rawLog.length > 10_000) this.rawLog.splice(0, 5000);
    this.log.push(line);
    if (this.log.length > 10_000) this.log.splice(0, 5000);
    for (const waiter of [...this.#logWaiters]) waiter(line);
  }
}

/** Name of the event a log line reports. */
export function logEventName(line: Record<string, unknown>): unknown {
  return line.event ?? line.msg;
}

/** `promise`, or a rejection saying `message()` after `idleMs`, on a busy machine after three times as long. */
export function bounded<T>(promise: Promise<T>, idleMs: number, message: () => string): Promise<T> {
  const timeoutMs = idleMs * PATIENCE;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${message()} (within ${timeoutMs} ms)`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function merge(base: Settings, over: Settings): Settings {
  const merged: Settings = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    merged[key] = isPlain(before) && isPlain(value) ? merge(before, value) : value;
  }
  return merged;
}

function isPlain(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
