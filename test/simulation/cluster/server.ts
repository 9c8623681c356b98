/**
 * A database server of the simulated cluster, by the rules of MariaDB that the relay counts on: transactions all or
 * nothing and durable once committed, isolated from each other (here: one at a time, the others wait), rolled back
 * when their connection ends, and whatever still arrives on a connection is done, wanted or not.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { Clock, Timer } from './clock.ts';
import { translated, translatedScript, WATCH } from './dialect.ts';

const MIGRATIONS = new URL('../../../config/sql/mysql/', import.meta.url);
const SCRIPTS = readdirSync(MIGRATIONS)
  .sort()
  .map((name) => translatedScript(readFileSync(new URL(name, MIGRATIONS), 'utf8')));
const LOCK_WAIT_MS = 10_000;
/** A transaction whose connection says nothing for so long is rolled back (idle_transaction_timeout). */
const IDLE_TRANSACTION_MS = 1200;
/** A transaction that takes this long keeps results of others from being written. */
const HELD_UP_MS = 400;
/** A connection that holds a lock and says nothing for so long is ended (wait_timeout, as node-claim.ts sets it). */
const WAIT_TIMEOUT_MS = 3000;

export type Value = string | number | null;

export interface Request {
  sql: string;
  /** Several: the statement is done for each. */
  rows: Value[][];
  answer(error: Error | null, value: unknown): void;
}

/** An error as the connector reports it. */
export function serverError(errno: number, code: string, text: string, fatal: boolean): Error {
  return Object.assign(new Error(text), { errno, code, fatal, sqlMessage: text });
}

export const connectionLost = (text: string): Error => serverError(45_009, 'ER_SOCKET_CLOSED', text, true);

export class ServerSession {
  readonly server: Server;
  readonly inbox: Request[] = [];
  open = true;
  readonly autocommit: boolean;
  /** Name of the node it is of. */
  readonly node: string;
  activeMs = 0;
  lockWait: Timer | null = null;
  /** Tells the client, when it can be told. */
  readonly closed: () => void;

  constructor(server: Server, autocommit: boolean, node: string, closed: () => void) {
    this.server = server;
    this.autocommit = autocommit;
    this.node = node;
    this.closed = closed;
  }
}

export class Server {
  readonly id: number;
  readonly violations: string[] = [];
  readonly database = new DatabaseSync(':memory:');
  /**
   * Of the transaction under way. A statement sent on behind one that ended in a deadlock begins another, which is rolled
   * back when the client reads of the deadlock: that did nothing.
   */
  #uncommitted: string[] = [];
  readonly #locks = new Map<string, ServerSession>();
  up = true;
  paused = false;
  /** Share of statements in transactions that end in a deadlock. */
  deadlocks = 0;
  /** A transaction has held up all others since then: of a node that stood still inside it, say. */
  wasHeld: (fromMs: number) => void = () => {};
  readonly #clock: Clock;
  readonly #sessions = new Set<ServerSession>();
  readonly #statements = new Map<string, StatementSync[]>();
  #holder: ServerSession | null = null;
  #heldSinceMs = 0;
  /** Of the statement that is done now. */
  #asking = '';
  #waiting: ServerSession[] = [];

  constructor(id: number, clock: Clock) {
    this.id = id;
    this.#clock = clock;
    for (const script of SCRIPTS) this.database.exec(script);
    this.database.exec(`INSERT INTO relay_schema (version, applied_at) VALUES (${SCRIPTS.length}, 0)`);
    this.database.function('violation', { varargs: true }, (text) => {
      (this.#holder === null ? this.violations : this.#uncommitted).push(String(text));
      return null;
    });
    this.database.function('IS_FREE_LOCK', (name) => (this.#holderOf(String(name)) === null ? 1 : 0));
    this.database.function('server_ms', () => this.#clock.nowMs);
    this.database.function('asking_node', () => this.#asking);
    this.database.exec(WATCH);
  }

  /** The world is over. What SQLite was given to call would keep all of it in memory. */
  dispose(): void {
    this.database.close();
  }

  /** @returns null when nobody listens. */
  connect(autocommit: boolean, node: string, closed: () => void): ServerSession | null {
    if (!this.up) return null;
    const session = new ServerSession(this, autocommit, node, closed);
    this.#sessions.add(session);
    return session;
  }

  /** A request arrives. */
  receive(session: ServerSession, request: Request): void {
    if (!session.open) return;
    session.inbox.push(request);
    this.#pump(session);
  }

  #pump(session: ServerSession): void {
    while (session.open && session.inbox.length > 0) {
      if (this.paused) return;
      if (this.#holder !== null && this.#holder !== session) {
        this.#wait(session);
        return;
      }
      session.lockWait?.cancel();
      session.lockWait = null;
      this.#do(session, session.inbox.shift() as Request);
    }
  }

  #wait(session: ServerSession): void {
    if (this.#waiting.includes(session)) return;
    this.#waiting.push(session);
    session.lockWait = this.#clock.later(LOCK_WAIT_MS, () => {
      this.#waiting = this.#waiting.filter((other) => other !== session);
      session.inbox
        .shift()
        ?.answer(serverError(1205, 'ER_LOCK_WAIT_TIMEOUT', 'Lock wait timeout', false), null);
      this.#pump(session);
    });
  }

  #do(session: ServerSession, request: Request): void {
    session.activeMs = this.#clock.nowMs;
    this.#asking = session.node;
    const { sql } = request;
    const ends = sql === 'COMMIT' || sql === 'ROLLBACK';
    if (this.#holder === null && !ends && (!session.autocommit || sql === 'START TRANSACTION')) {
      this.database.exec('BEGIN');
      this.#holder = session;
      this.#heldSinceMs = this.#clock.nowMs;
      this.#watchIdle(session);
    }
    if (sql === 'START TRANSACTION') request.answer(null, OK);
    else if (ends) {
      if (this.#holder === session) this.database.exec(sql);
      if (this.#holder === session && sql === 'COMMIT') this.violations.push(...this.#uncommitted);
      request.answer(null, OK);
      this.#free(session);
    } else if (this.#holder === session && this.#clock.chance(this.deadlocks)) {
      this.database.exec('ROLLBACK');
      request.answer(serverError(1213, 'ER_LOCK_DEADLOCK', 'Deadlock found', false), null);
      this.#free(session);
    } else if (sql.startsWith('SELECT GET_LOCK')) this.#lock(session, request);
    else {
      try {
        request.answer(null, this.#execute(request));
      } catch (error) {
        const text = `${(error as Error).message} in ${sql}`;
        // Two rows of a message would get the same key: the relay does such a part of the queue row by row then.
        if (text.startsWith('UNIQUE constraint failed: mail_outbox.') && sql.trim().startsWith('UPDATE')) {
          request.answer(serverError(1062, 'ER_DUP_ENTRY', text, false), null);
          return;
        }
        this.violations.push(text);
        request.answer(serverError(1064, 'ER_PARSE_ERROR', text, false), null);
      }
    }
  }

  /** A name is of one session until that ends. */
  #lock(session: ServerSession, { rows, answer }: Request): void {
    const name = String(rows[0]?.[0]);
    const got = (this.#holderOf(name) ?? session) === session ? 1 : 0;
    if (got === 1) {
      const silent = this.#locks.get(name);
      this.#locks.set(name, session);
      if (silent !== undefined && silent !== session) this.end(silent);
    }
    answer(null, [{ got }]);
  }

  #holderOf(name: string): ServerSession | null {
    const holder = this.#locks.get(name);
    if (holder === undefined || !holder.open) return null;
    return this.#clock.nowMs - holder.activeMs > WAIT_TIMEOUT_MS ? null : holder;
  }

  #execute({ sql, rows }: Request): unknown {
    let affectedRows = 0;
    let statements = this.#statements.get(sql);
    if (statements === undefined) {
      statements = translated(sql).map((one) => this.database.prepare(one));
      this.#statements.set(sql, statements);
    }
    for (const values of rows)
      for (const statement of statements) {
        if (/^\s*SELECT/.test(sql)) return statement.all(...values);
        affectedRows += Number(statement.run(...values).changes);
      }
    return { affectedRows };
  }

  /** The transaction is over: whoever waited goes on. */
  #free(session: ServerSession): void {
    if (this.#holder !== session) return;
    this.#holder = null;
    this.#uncommitted = [];
    if (this.#clock.nowMs - this.#heldSinceMs >= HELD_UP_MS) this.wasHeld(this.#heldSinceMs);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const next of waiting) {
      next.lockWait?.cancel();
      this.#pump(next);
    }
  }

  #watchIdle(session: ServerSession): void {
    this.#clock.later(IDLE_TRANSACTION_MS, () => {
      if (this.#holder !== session) return;
      if (this.paused || this.#clock.nowMs - session.activeMs < IDLE_TRANSACTION_MS) this.#watchIdle(session);
      else this.end(session);
    });
  }

  /** The connection is over. */
  end(session: ServerSession): void {
    if (!session.open) return;
    session.open = false;
    session.lockWait?.cancel();
    this.#sessions.delete(session);
    if (this.#holder === session) this.database.exec('ROLLBACK');
    this.#free(session);
    session.closed();
  }

  /** kill -9 of the server; what was committed stays. */
  kill(): void {
    this.up = false;
    this.paused = false;
    const sessions = [...this.#sessions];
    for (const session of sessions) session.inbox.length = 0;
    for (const session of sessions) this.end(session);
  }

  start(): void {
    this.up = true;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    for (const session of [...this.#sessions]) this.#pump(session);
  }

  /** A look from outside of the world. A transaction under way is not visible elsewhere, but here it is. */
  /** An operator lets go on what is held. @returns how many rows. */
  releaseHeld(): number {
    const release =
      "UPDATE mail_outbox SET state = 'PENDING', due_at = ?, deaths = 0 WHERE state = 'HELD' AND reason = 'suspected_poison'";
    return Number(this.database.prepare(release).run(this.#clock.nowMs).changes);
  }

  look<T>(sql: string, ...values: Value[]): T[] {
    return this.database.prepare(sql).all(...values) as T[];
  }
}

const OK = { affectedRows: 0 };
