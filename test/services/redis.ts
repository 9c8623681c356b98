/**
 * A Redis server of a test's own: Debian's redis-server on a free loopback port, its folder temporary, stopped by its
 * pid. It keeps nothing over a restart unless asked to.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { freePort } from '../support/free-port.ts';
import { needs, programPath, skipWithout } from '../support/programs.ts';

const START_MS = 10_000;

/** The reason why no server can be started, else false: the `skip` option of node:test. */
export const skipWithoutRedis = (): string | false => {
  const missing = skipWithout('redis-server');
  return missing === false ? false : `${missing} (Debian package redis-server)`;
};

export interface RedisServerOptions {
  password?: string;
  /** Its certificate and key: it speaks TLS then, and nothing else. */
  tls?: { cert: string; key: string };
  /** More options of redis-server. */
  args?: string[];
  /** Its configuration file, when it is a sentinel. */
  sentinel?: string;
}

export class RedisServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'redis-'));
  port = 0;
  readonly #options: RedisServerOptions;
  #server: ChildProcess | null = null;

  private constructor(options: RedisServerOptions) {
    this.#options = options;
  }

  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    needs(skipWithout('redis-server'));
    const server = new RedisServer(options);
    try {
      server.port = await freePort();
      await server.start();
      return server;
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  /** A sentinel by its configuration file, which it rewrites. */
  static async startSentinel(file: string): Promise<RedisServer> {
    const server = new RedisServer({ sentinel: file });
    server.port = await freePort();
    await server.start();
    return server;
  }

  get pid(): number {
    return this.#server?.pid as number;
  }

  get url(): string {
    return `${this.#options.tls === undefined ? 'redis' : 'rediss'}://127.0.0.1:${this.port}`;
  }

  /** Starts it (again), on the same port. */
  async start(): Promise<void> {
    const { password, tls, args = [], sentinel } = this.#options;
    const all = ['--bind', '127.0.0.1', '--dir', this.folder, '--save', '', '--appendonly', 'no'];
    all.push('--daemonize', 'no', '--maxmemory-policy', 'noeviction');
    if (tls === undefined) all.push('--port', String(this.port));
    else {
      all.push('--port', '0', '--tls-port', String(this.port), '--tls-auth-clients', 'no');
      all.push('--tls-cert-file', tls.cert, '--tls-key-file', tls.key, '--tls-ca-cert-file', tls.cert);
    }
    if (password !== undefined) all.push('--requirepass', password);
    const asSentinel = ['--sentinel', '--bind', '127.0.0.1', '--port', String(this.port)];
    const given = sentinel === undefined ? [...all, ...args] : [sentinel, ...asSentinel];
    const server = spawn(programPath('redis-server') as string, given, {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#server = server;
    let said = '';
    for (const stream of [server.stdout, server.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        said = (said + text).slice(-4000);
      });
    for (const until = Date.now() + START_MS; ; await sleep(20)) {
      if (server.exitCode !== null) throw new Error(`redis-server ended with ${server.exitCode}: ${said}`);
      if (await this.ask((client) => client.ping()).catch(() => null)) return;
      if (Date.now() > until) throw new Error(`redis-server does not answer on port ${this.port}: ${said}`);
    }
  }

  /** A connection of a test's own; it is closed by the test. */
  connect(): Redis {
    const { password, tls } = this.#options;
    const client = new Redis({
      host: '127.0.0.1',
      port: this.port,
      protocol: 2,
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      ...(password === undefined ? {} : { password }),
      ...(tls === undefined ? {} : { tls: { rejectUnauthorized: false } }),
    });
    client.on('error', () => {}); // the command that failed says it
    return client;
  }

  /** One question, over a connection of its own. */
  async ask<T>(question: (client: Redis) => Promise<T>): Promise<T> {
    const client = this.connect();
    try {
      await client.connect();
      return await question(client);
    } finally {
      client.disconnect();
    }
  }

  async usedMemory(): Promise<number> {
    const info = await this.ask((client) => client.info('memory'));
    return Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
  }

  /** No command that needs memory is done any more. */
  async fill(): Promise<void> {
    await this.ask((client) => client.config('SET', 'maxmemory', '1'));
  }

  async unfill(): Promise<void> {
    await this.ask((client) => client.config('SET', 'maxmemory', '0'));
  }

  /** Ends it at once. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null || server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.kill('SIGKILL');
    await ended;
  }

  /** Stands still, its connections open. */
  pause(): void {
    this.#server?.kill('SIGSTOP');
  }

  resume(): void {
    this.#server?.kill('SIGCONT');
  }

  async close(): Promise<void> {
    this.resume();
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
