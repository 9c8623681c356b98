/**
 * Connections to one MariaDB or MySQL server, kept open and lent to one caller at a time. When the server cannot be
 * reached, callers learn it at once, without waiting for a free connection. A connection that fails or does not answer
 * in time is never used again. Knows nothing of mail.
 */
import type { Connection } from 'mariadb';
import { steadyMs } from '../../base/steady.ts';
import type { ServerConfig } from '../../config/schema.ts';
import { withTimeout } from './connection.ts';
import type { Endpoints } from './endpoints.ts';
import { ConnectionLost } from './errors.ts';

/** A connection that was unused for longer is checked before a transaction begins on it. */
const TRUSTED_MS = 2000;

interface Idle {
  connection: Connection;
  sinceMs: number;
}

export interface PoolOptions {
  server: ServerConfig;
  endpoints: Pick<Endpoints, 'open'>;
  /** The limit of this pool; the limits in `server` are for all pools of a process together. */
  maxConnections: number;
  initialConnections: number;
}

export class ConnectionPool {
  readonly #server: ServerConfig;
  readonly #endpoints: Pick<Endpoints, 'open'>;
  readonly #maxConnections: number;
  readonly #initialConnections: number;
  readonly #idle: Idle[] = [];
  #open = 0;
  #waiting: { resolve(connection: Connection): void; reject(error: unknown): void }[] = [];
  #sweeper: NodeJS.Timeout | null = null;
  #closed = false;

  constructor({ server, endpoints, maxConnections, initialConnections }: PoolOptions) {
    this.#server = server;
    this.#endpoints = endpoints;
    this.#maxConnections = maxConnections;
    this.#initialConnections = initialConnections;
  }

  /**
   * A connection for the caller alone, until `release` or `discard`.
   * @throws what the connector says when the server cannot be reached; ConnectionLost when all are lent for too long.
   */
  async acquire(): Promise<Connection> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      const { connection, sinceMs } = idle;
      if (connection.isValid() && (steadyMs() - sinceMs < TRUSTED_MS || (await this.#answers(connection))))
        return connection;
      this.discard(connection);
    }
    if (this.#closed) throw new ConnectionLost('the pool is closed');
    if (this.#open < this.#maxConnections) return this.#connect();
    return this.#wait();
  }

  async #connect(): Promise<Connection> {
    this.#open++;
    try {
      return await this.#endpoints.open();
    } catch (error) {
      this.#open--;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
      throw error;
    }
  }

  #wait(): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const waiter = {
        resolve: (connection: Connection): void => {
          clearTimeout(timer);
          resolve(connection);
        },
        reject: (error: unknown): void => {
          clearTimeout(timer);
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(new ConnectionLost(`all ${this.#maxConnections} connections are in use (max_pool_size)`));
      }, this.#server.connection_timeout_ms);
      this.#waiting.push(waiter);
    });
  }

  async #answers(connection: Connection): Promise<boolean> {
    try {
      await withTimeout(connection.ping(), this.#server.connection_timeout_ms);
      return true;
    } catch {
      return false;
    }
  }

  /** Gives back a connection without an open transaction. */
  release(connection: Connection): void {
    if (this.#closed || !connection.isValid()) {
      this.discard(connection);
      return;
    }
    const waiter = this.#waiting.shift();
    if (waiter !== undefined) waiter.resolve(connection);
    else this.#idle.push({ connection, sinceMs: steadyMs() });
    this.#sweepLater();
  }

  /** Ends a connection whose state is not known. */
  discard(connection: Connection): void {
    this.#open--;
    connection.destroy();
    if (this.#waiting.length === 0 || this.#closed) return;
    // The caller that waits may have given up by then. If this fails, waiting callers get its error.
    this.#connect().then(
      (next) => this.release(next),
      () => {},
    );
  }

  /** Another server is in use now: idle connections lead to the one before, and are dropped. */
  forgetIdle(): void {
    for (const { connection } of this.#idle.splice(0)) this.discard(connection);
  }

  /** Connections unused for idle_timeout_ms end, down to initial_pool_size. */
  #sweepLater(): void {
    this.#sweeper ??= setTimeout(() => {
      this.#sweeper = null;
      const beforeMs = steadyMs() - this.#server.idle_timeout_ms;
      while (this.#open > this.#initialConnections && (this.#idle[0]?.sinceMs ?? Infinity) <= beforeMs) {
        this.#open--;
        (this.#idle.shift() as Idle).connection.end().catch(() => {}); // the connection is gone either way
      }
      if (this.#idle.length > this.#initialConnections) this.#sweepLater();
    }, this.#server.idle_timeout_ms).unref();
  }

  /** Opens the first connections. @throws the connector's error. */
  async warm(): Promise<void> {
    const missing = Math.max(1, this.#initialConnections) - this.#open;
    // A connection that opens after another one failed is given back as well.
    const open = async (): Promise<void> => this.release(await this.#connect());
    await Promise.all(Array.from({ length: Math.max(0, missing) }, open));
  }

  /** Ends idle connections now and lent ones when they come back. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#sweeper !== null) clearTimeout(this.#sweeper);
    for (const { reject } of this.#waiting.splice(0)) reject(new ConnectionLost('the pool is closed'));
    await Promise.all(
      this.#idle.splice(0).map(({ connection }) => {
        this.#open--;
        return connection.end().catch(() => connection.destroy());
      }),
    );
  }
}
