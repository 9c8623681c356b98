/**
 * A process's claim to its node id on one server: a lock of the server, which ends with the connection that holds it,
 * and a row that says who has it. Without it, two processes of one id would give back each other's rows and make the
 * same queue ids. The same connection is used to ask for the server's time.
 *
 * Lives on the main thread, so it loads the connector only when it is used.
 */
import type { Connection } from 'mariadb';
import { RelayError } from '../../base/errors.ts';
import type { ServerConfig } from '../../config/schema.ts';
import { ServerClock } from '../server-clock.ts';
import type { Endpoints } from './endpoints.ts';
import { nodeLockName } from './node-lock.ts';

/** How long to wait for the lock: a life that was killed just now loses it within this time. */
const TAKE_WAIT_S = 3;
const MIN_SILENCE_S = 3;
/**
 * After this many lease times without a word the server ends the connection, and with it the lock. It is longer than
 * the leases of rows, so that whoever takes over rows can tell whether their owner died or hangs (node-lock.ts).
 */
const SILENCE_LEASES = 1.5;

export interface NodeClaimOptions {
  server: ServerConfig;
  node: string;
  /** Name of this process's life, which no other has. */
  life: string;
  /** 'pid 123 on host.example.net' */
  place: string;
  leaseMs: number;
  now(): number;
}

/** held: it is ours; away: nobody knows at the moment; lost: another has it. */
export type ClaimState = 'held' | 'away' | 'lost';

interface Life {
  life: string;
  place: string;
  since: number;
  seenAt: number;
  nowMs: number;
}

/** Milliseconds since 1970 by the server's clock. Sessions have the time zone +00:00. */
const SERVER_MS = 'CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)';

export class NodeClaim {
  state: ClaimState = 'away';
  /** Who has the id when it is not ours. */
  rival = '';
  /** The time of the server. */
  readonly clock: ServerClock;
  readonly #options: NodeClaimOptions;
  #connection: Connection | null = null;
  #endpoints: Endpoints | null = null;

  constructor(options: NodeClaimOptions) {
    this.#options = options;
    this.clock = new ServerClock(options.now);
  }

  /** Takes the id at start. @throws RelayError 'already_running' when another life has it, or the server's error. */
  async take(): Promise<void> {
    await this.#checkTables();
    await this.#hold(TAKE_WAIT_S, true);
    if (this.state !== 'held')
      throw new RelayError(
        'already_running',
        `node_id "${this.#options.node}" ${this.rival}: give this node a node_id of its own; if that is an earlier life of this node, start it again after that time`,
      );
  }

  async #checkTables(): Promise<void> {
    const { server } = this.#options;
    const { checkSchema } = await import('./schema.ts');
    const { mysqlError } = await import('./errors.ts');
    const { serverName, withTimeout } = await import('./connection.ts');
    const name = serverName(server);
    try {
      await withTimeout(checkSchema(await this.#connect(), name), server.connection_timeout_ms);
    } catch (error) {
      this.#drop();
      throw mysqlError(error, name);
    }
  }

  /** Says that this process still runs, and learns the server's time. Tries to get a lost claim back. @throws RelayError */
  async renew(): Promise<void> {
    if (this.#connection?.isValid() !== true || this.state !== 'held') await this.#hold(0, false);
    else
      try {
        await this.#seen(this.#connection);
      } catch {
        // The connection may have ended by itself, or the server may not be written to any more; a new one tells.
        this.#drop();
        await this.#hold(0, false);
      }
  }

  async #hold(waitS: number, fresh: boolean): Promise<void> {
    const { node, life, place, leaseMs, server } = this.#options;
    const { mysqlError } = await import('./errors.ts');
    const { serverName, withTimeout } = await import('./connection.ts');
    try {
      const connection = await this.#connect();
      const limitMs = server.connection_timeout_ms + waitS * 1000;
      const [locked] = await withTimeout(
        connection.query<{ got: number | null }[]>('SELECT GET_LOCK(?, ?) AS got', [
          nodeLockName(server.database, node),
          waitS,
        ]),
        limitMs,
      );
      const found = await withTimeout(this.#holder(connection), limitMs);
      // While our connection was lost, another may have come and gone; it gave up the lock, but may have left its row.
      const another = found !== null && found.life !== life && !fresh && found.seenAt + leaseMs > found.nowMs;
      if (locked?.got !== 1 || another) {
        this.#lost(found);
        return;
      }
      await withTimeout(
        connection.query(
          `INSERT INTO relay_lives (node, life, place, since, seen_at) VALUES (?, ?, ?, ${SERVER_MS}, ${SERVER_MS})
             ON DUPLICATE KEY UPDATE since = IF(life = VALUES(life), since, VALUES(since)),
             life = VALUES(life), place = VALUES(place), seen_at = VALUES(seen_at)`,
          [node, life, place],
        ),
        limitMs,
      );
      this.state = 'held';
      this.rival = '';
      await this.#seen(connection);
    } catch (error) {
      this.#drop();
      if (this.state === 'held') this.state = 'away';
      throw mysqlError(error, serverName(server));
    }
  }

  async #connect(): Promise<Connection> {
    if (this.#connection?.isValid()) return this.#connection;
    this.#drop();
    const { Endpoints } = await import('./endpoints.ts');
    this.#endpoints ??= new Endpoints(this.#options.server);
    // If this process is cut off or stands still, it loses the lock soon after its leases.
    this.#connection = await this.#endpoints.open([
      `SET SESSION autocommit = 1, wait_timeout = ${this.#silenceS}`,
    ]);
    return this.#connection;
  }

  get #silenceS(): number {
    return Math.max(MIN_SILENCE_S, Math.ceil((SILENCE_LEASES * this.#options.leaseMs) / 1000));
  }

  async #holder(connection: Connection): Promise<Life | null> {
    const [row] = await connection.query<Life[]>(
      `SELECT life, place, since, seen_at AS seenAt, ${SERVER_MS} AS nowMs FROM relay_lives WHERE node = ?`,
      [this.#options.node],
    );
    return row ?? null;
  }

  async #seen(connection: Connection): Promise<void> {
    const { node, life, server } = this.#options;
    const { withTimeout } = await import('./connection.ts');
    const measured = this.clock.measure();
    const [{ affectedRows }, [time]] = await withTimeout(
      Promise.all([
        connection.query<{ affectedRows: number }>(
          `UPDATE relay_lives SET seen_at = ${SERVER_MS} WHERE node = ? AND life = ?`,
          [node, life],
        ),
        connection.query<{ nowMs: number }[]>(`SELECT ${SERVER_MS} AS nowMs`),
      ]),
      server.connection_timeout_ms,
    );
    if (time !== undefined) measured(time.nowMs);
    if (affectedRows === 0) this.#lost(await this.#holder(connection));
  }

  #lost(found: Life | null): void {
    const { server } = this.#options;
    this.#drop();
    this.state = 'lost';
    const until = found === null ? '' : `, its lease until ${isoOf(found.seenAt + this.#silenceS * 1000)}`;
    const who = found === null ? 'a process not known' : `${found.place} since ${isoOf(found.since)}`;
    this.rival = `is in use on ${server.socket ?? `${server.host}:${server.port}`}/${server.database} by ${who}${until}`;
  }

  #drop(): void {
    this.#connection?.destroy();
    this.#connection = null;
  }

  /** Gives the id back: the next life may begin at once. */
  async release(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    if (connection === null) return;
    const { node, life, server } = this.#options;
    const { withTimeout } = await import('./connection.ts');
    try {
      const gone = connection.query('DELETE FROM relay_lives WHERE node = ? AND life = ?', [node, life]);
      await withTimeout(gone, server.connection_timeout_ms);
      await connection.end();
    } catch {
      connection.destroy(); // the row stays, of a life that is over; the lock is free
    }
  }
}

const isoOf = (ms: number): string => new Date(ms).toISOString();
