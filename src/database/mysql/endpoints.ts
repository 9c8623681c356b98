/**
 * The servers that may have a shard's data: one that is written to, and others that may take its place. A connection
 * goes to the server in use, or else to the next that can be reached and written to.
 */
import type { Connection } from 'mariadb';
import type { ServerConfig } from '../../config/schema.ts';
import { openConnection, withTimeout } from './connection.ts';

/** Error number of a server whose data may not be changed (ER_OPTION_PREVENTS_STATEMENT). */
const READ_ONLY = 1290;

export interface EndpointsOptions {
  /** Default: a connection of the queue. */
  connect?(server: ServerConfig, then: string[]): Promise<Connection>;
  /** The caller only reads: where no server can be written to, a read-only one will do. */
  onlyReads?: boolean;
}

export class Endpoints {
  readonly #servers: ServerConfig[];
  readonly #connect: (server: ServerConfig, then: string[]) => Promise<Connection>;
  readonly #onlyReads: boolean;
  /** Index of the server in use. */
  #at = 0;

  constructor(server: ServerConfig, { connect = openConnection, onlyReads = false }: EndpointsOptions = {}) {
    this.#connect = connect;
    this.#onlyReads = onlyReads;
    const others = server.endpoints.map((endpoint) => ({ ...server, ...hostOf(endpoint), socket: null }));
    this.#servers = [server, ...others];
  }

  /** @param then statements to do first. @throws the error of the last server tried. */
  async open(then: string[] = []): Promise<Connection> {
    if (this.#servers.length === 1) return this.#connect(this.#servers[0] as ServerConfig, then);
    try {
      return await this.#openOne(then, true);
    } catch (error) {
      if (!this.#onlyReads) throw error;
      return this.#openOne(then, false);
    }
  }

  async #openOne(then: string[], writable: boolean): Promise<Connection> {
    let failure: unknown = null;
    for (let i = 0; i < this.#servers.length; i++) {
      const at = (this.#at + i) % this.#servers.length;
      try {
        const connection = await this.#connect(this.#servers[at] as ServerConfig, then);
        if (writable) await this.#checkWritable(connection, at);
        this.#at = at;
        return connection;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  async #checkWritable(connection: Connection, at: number): Promise<void> {
    const { host, port, connection_timeout_ms } = this.#servers[at] as ServerConfig;
    try {
      const asked = Promise.all([
        connection.query<{ readOnly: number | bigint }[]>(
          'SELECT @@global.read_only OR @@global.innodb_read_only AS readOnly',
        ),
        connection.query('COMMIT'),
      ]);
      const [[row]] = await withTimeout(asked, connection_timeout_ms);
      if (Number(row?.readOnly) === 0) return;
    } catch (error) {
      connection.destroy();
      throw error;
    }
    connection.destroy();
    throw Object.assign(new Error(`${host}:${port} is read-only`), { errno: READ_ONLY });
  }
}

/** 'db2.example.net:3307', '[2001:db8::2]:3306' or without a port. */
export function hostOf(endpoint: string): { host: string; port: number } {
  const [, v6, name = '', port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(endpoint) ?? [];
  return { host: v6 ?? name, port: port === undefined ? 3306 : Number(port) };
}
