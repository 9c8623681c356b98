/**
 * Connections to one MariaDB or MySQL server, kept open and lent out one at a time. A server that cannot be reached
 * is told at once, not after a wait for a place; a connection that fails or does not answer in time is never used
 * again. Knows nothing of mail.
 */

import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { type Connection, type ConnectionConfig, createConnection } from 'mariadb';
import { steadyMs } from '../../base/steady.ts';
import type { ServerConfig } from '../../config/schema.ts';
import type { Endpoints } from './endpoints.ts';
import { ConnectionLost } from './errors.ts';

/** A connection unused for longer is asked whether it is still there before a transaction begins on it. */
const TRUSTED_MS = 2000;
/** No statement has to wait for rows of others but for a moment; what they keep for longer is skipped, or tried later. */
const LOCK_WAIT_SECONDS = 2;
/** Share of query_timeout_ms that a transaction may lie idle: a node that lives sends one statement after another. */
const IDLE_SHARE = 1 / 3;

interface Idle {
  connection: Connection;
  sinceMs: number;
}

export interface PoolOptions {
  server: ServerConfig;
  endpoints: Pick<Endpoints, 'open'>;
  /** Of this pool; the server's limits count for all pools of a process together. */
  maxConnections: number;
  initialConnections: number;
}

/** 'mysql relay@127.0.0.1:3306/relay': without the password, for messages. */
export function serverName({ host, port, socket, user, database, endpoints }: ServerConfig): string {
  const others = endpoints.length === 0 ? '' : ` (or ${endpoints.join(', ')})`;
  return `mysql ${user}@${socket ?? `${host}:${port}`}/${database}${others}`;
}

export function connectionOptions(server: ServerConfig): ConnectionConfig {
  const { tls, tls_ca_file: caFile } = server;
  const options: ConnectionConfig = {
    user: server.user,
    password: server.password,
    database: server.database,
    connectTimeout: server.connection_timeout_ms,
    bigIntAsNumber: true,
    insertIdAsNumber: true,
    decimalAsNumber: true,
    checkNumberRange: true,
    keepAliveDelay: 30_000,
    prepareCacheLength: 64,
    charset: 'utf8mb4',
    // MySQL 8 wants the password encrypted with its public key where the connection is not. Whoever could hand us
    // another key there could read and change all the mail as well.
    allowPublicKeyRetrieval: tls === 'off',
    // Without autocommit: statements are sent behind each other without waiting, and when a deadlock undoes their
    // transaction, those that follow must not stay on their own.
    initSql: [
      'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
      `SET SESSION innodb_lock_wait_timeout = ${LOCK_WAIT_SECONDS}, sql_mode = 'STRICT_ALL_TABLES', time_zone = '+00:00', autocommit = 0`,
    ],
  };
  if (server.socket !== null) options.socketPath = server.socket;
  else {
    options.host = server.host;
    options.port = server.port;
  }
  if (tls !== 'off') {
    const ca = caFile === null ? {} : { ca: readFileSync(caFile, 'utf8') };
    const { host } = server;
    // The connector gives Node a socket that has no name when the server is named by its address.
    const ssl = {
      ...ca,
      rejectUnauthorized: tls === 'verify',
      ...(server.socket !== null || isIP(host) !== 0 ? {} : { servername: host }),
      checkServerIdentity: (_: string, certificate: PeerCertificate) =>
        checkServerIdentity(host, certificate),
    };
    options.ssl = ssl;
  }
  return options;
}

/** @param then statements done first, for a connection without transactions. @throws what the connector says. */
export async function openConnection(server: ServerConfig, then: string[] = []): Promise<Connection> {
  const options = connectionOptions(server);
  const initSql = [...(options.initSql as string[]), ...then];
  const connection = await createConnection({ ...options, initSql });
  connection.on('error', () => {}); // whoever holds it learns it from its own statement
  try {
    const limit = idleLimit(connection, server);
    if (limit !== null && then.length === 0) await connection.query(limit);
  } catch (error) {
    connection.destroy();
    throw error;
  }
  return connection;
}

/**
 * A node that hangs or is cut off inside a transaction keeps its locks until the server ends the connection: in its
 * own time that is after eight hours. MySQL has no limit for transactions, and ends what is idle in any state; the
 * pool opens another then.
 */
function idleLimit(connection: Connection, server: ServerConfig): string | null {
  const seconds = Math.max(1, Math.ceil((server.query_timeout_ms * IDLE_SHARE) / 1000));
  const { info } = connection;
  if (!info) return null;
  if (!info.isMariaDB()) return `SET SESSION wait_timeout = ${seconds}`;
  return `SET SESSION idle_transaction_timeout = ${seconds}, net_write_timeout = ${seconds}`;
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
    // For whoever has waited longest by then: who waits now may have given up. A failure is told to all of them.
    this.#connect().then(
      (next) => this.release(next),
      () => {},
    );
  }

  /** The server in use became another: what lies idle leads to the one before. */
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
        (this.#idle.shift() as Idle).connection.end().catch(() => {}); // it is gone either way
      }
      if (this.#idle.length > this.#initialConnections) this.#sweepLater();
    }, this.#server.idle_timeout_ms).unref();
  }

  /** Opens the first connections. @throws what the connector says. */
  async warm(): Promise<void> {
    const missing = Math.max(1, this.#initialConnections) - this.#open;
    const connections = await Promise.all(
      Array.from({ length: Math.max(0, missing) }, () => this.#connect()),
    );
    for (const connection of connections) this.release(connection);
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

/** @throws ConnectionLost when it takes longer; the connection is then the caller's to discard. */
export async function withTimeout<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new ConnectionLost(`no answer within ${timeoutMs} ms (query_timeout_ms)`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
