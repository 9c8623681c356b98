/**
 * Stands in for the `mariadb` connector: connections of simulated processes to simulated servers, over a network
 * that delays, and loses what it is told to. What is sent on a connection arrives in order.
 */
import { type Actor, actor } from './clock.ts';
import { type Network, newLane } from './network.ts';
import { processOf } from './process.ts';
import {
  connectionLost,
  type Request,
  type Server,
  type ServerSession,
  serverError,
  type Value,
} from './server.ts';

interface Pending {
  resolve(value: never): void;
  reject(error: Error): void;
}

class Connection {
  readonly owner: Actor;
  readonly network: Network;
  readonly server: Server;
  session: ServerSession | null = null;
  readonly toServer = newLane();
  readonly toClient = newLane();
  #pending = new Set<Pending>();
  #over: Error | null = null;

  constructor(owner: Actor, server: Server) {
    this.owner = owner;
    this.network = processOf(owner).world.network;
    this.server = server;
  }

  query(sql: string, values: Value[] = []): Promise<unknown> {
    return this.#send(sql, [values]);
  }

  execute(sql: string, values: Value[] = []): Promise<unknown> {
    return this.#send(sql, [values]);
  }

  batch(sql: string, rows: Value[][]): Promise<unknown> {
    return this.#send(sql, rows);
  }

  async ping(): Promise<void> {
    await this.#send('SELECT 1', [[]]);
  }

  isValid(): boolean {
    return this.#over === null;
  }

  on(): void {}

  /** Where the relay reaches for the socket. */
  get __tests(): object {
    return { getSocket: () => ({ destroy: () => this.#close() }) };
  }

  async end(): Promise<void> {
    this.#close();
  }

  #close(): void {
    this.lost('the connection was closed');
    const { session } = this;
    // What was sent before still arrives before it.
    if (session !== null) this.network.toServer(this, () => this.server.end(session));
  }

  /** The client learns that it is over. */
  lost(text: string): void {
    if (this.#over !== null) return;
    this.#over = connectionLost(text);
    this.network.forget(this);
    for (const { reject } of this.#pending) reject(this.#over);
    this.#pending.clear();
  }

  #send(sql: string, rows: Value[][]): Promise<unknown> {
    if (this.#over !== null) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      const pending: Pending = { resolve, reject };
      this.#pending.add(pending);
      const request: Request = { sql, rows, answer: (error, value) => this.#answer(pending, error, value) };
      this.network.toServer(this, () => {
        if (this.session !== null) this.server.receive(this.session, request);
      });
    });
  }

  #answer(pending: Pending, error: Error | null, value: unknown): void {
    this.network.toClient(this, () => {
      if (!this.#pending.delete(pending)) return;
      if (error !== null) pending.reject(error);
      else pending.resolve(value as never);
    });
  }
}

export type { Connection };

interface Options {
  port: number;
  connectTimeout: number;
  initSql: string[];
}

export function createConnection({ port, connectTimeout, initSql }: Options): Promise<Connection> {
  const autocommit = !initSql.findLast((sql) => sql.includes('autocommit ='))?.includes('autocommit = 0');
  const owner = actor();
  const { node, world } = processOf(owner);
  const { network, servers } = world;
  const server = servers[port - 10_000] as Server;
  const connection = new Connection(owner, server);
  return new Promise<Connection>((resolve, reject) => {
    const late = owner.later(connectTimeout, () =>
      reject(serverError(45_012, 'ER_CONNECTION_TIMEOUT', `no answer from shard ${server.id}`, true)),
    );
    network.toServer(connection, () => {
      if (server.paused) return; // the kernel takes the connection, nobody says hello
      const session = server.connect(autocommit, node, () =>
        network.toClient(connection, () => connection.lost('the server went away')),
      );
      connection.session = session;
      network.toClient(connection, () => {
        late.cancel();
        if (session === null) reject(serverError(-111, 'ECONNREFUSED', `shard ${server.id} refuses`, true));
        else {
          network.remember(connection);
          resolve(connection);
        }
      });
    });
  });
}
