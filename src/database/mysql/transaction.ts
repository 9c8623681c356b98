/**
 * Runs transactions on pooled connections. Promises all or nothing, whatever happens to the connection: a deadlock
 * is tried again, a connection lost before COMMIT was sent is a rollback, and a connection lost during COMMIT is
 * settled by asking the server whether the commit's token row is there.
 */
import type { Connection } from 'mariadb';
import type { CommitResult } from '../database.ts';
import { withTimeout } from './connection.ts';
import { ConnectionLost, isLost, isRetryable, isTooLong, isUnfit } from './errors.ts';
import type { ConnectionPool } from './pool.ts';

const DEADLOCK_TRIES = 8;
const LOST_TRIES = 2;
const FATE_PAUSE_MS = 100;
const LONGEST_FATE_PAUSE_MS = 2000;

/** Names a commit, so that the server can be asked about it. */
export interface CommitName {
  /** Transactions of one lane follow one another. */
  lane: string;
  token: string;
  nowMs: number;
  /** The result to store with the token, for whoever asks after this thread died. */
  result(): CommitResult | null;
}

/** The relay stops without knowing whether the last commit happened. */
export class CommitInDoubt extends Error {
  override name = 'CommitInDoubt';

  constructor(lost: unknown) {
    super(`stopped before the fate of a commit was known (${(lost as Error).message})`);
  }
}

export interface TransactionsOptions {
  pool: ConnectionPool;
  timeoutMs: number;
}

export class Transactions {
  readonly #pool: ConnectionPool;
  readonly #timeoutMs: number;
  #closed = false;
  /** How many transactions were repeated after a deadlock or a lost connection, and how many commits were in doubt. */
  readonly counts = { deadlocks: 0, lost: 0, inDoubt: 0 };

  constructor({ pool, timeoutMs }: TransactionsOptions) {
    this.#pool = pool;
    this.#timeoutMs = timeoutMs;
  }

  /** Does reads, or a single statement that may be done twice. */
  async read<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    for (let lost = 1; ; lost++) {
      const connection = await this.#pool.acquire();
      try {
        const value = await withTimeout(committed(connection, work), this.#timeoutMs);
        this.#pool.release(connection);
        return value;
      } catch (error) {
        if (isLost(error)) this.#discard(connection, error);
        else await this.#rollback(connection);
        if (!this.#mayTryAgain(error, lost)) throw error;
        this.counts.lost++;
      }
    }
  }

  /**
   * Does `work` in a transaction. It may run more than once, each time from the beginning.
   * @param name lets the fate of a commit in doubt be found out; without it, that is reported as a lost connection.
   */
  async run<T>(work: (connection: Connection) => Promise<T>, name?: CommitName): Promise<T> {
    for (let deadlocks = 0, lost = 0; ; ) {
      const connection = await this.#pool.acquire();
      const attempt: { committing: boolean; value: T | null } = { committing: false, value: null };
      try {
        await withTimeout(transact(connection, work, attempt, name), this.#timeoutMs);
        this.#pool.release(connection);
        return attempt.value as T;
      } catch (error) {
        if (!isLost(error)) {
          await this.#rollback(connection);
          if (!isRetryable(error) || ++deadlocks >= DEADLOCK_TRIES) throw error;
          this.counts.deadlocks++;
          await pause(deadlocks * deadlocks * (0.5 + Math.random()));
          continue;
        }
        this.#discard(connection, error);
        if (attempt.committing) {
          if (name === undefined) throw error;
          if (await this.#happened(name, error)) return attempt.value as T;
        }
        if (!this.#mayTryAgain(error, ++lost)) throw error;
        this.counts.lost++;
      }
    }
  }

  /** Whether to try again: a connection may have been closed while it lay idle; but one that hangs would hang again. */
  #mayTryAgain(error: unknown, tries: number): boolean {
    if (!isLost(error) || error instanceof ConnectionLost || isTooLong(error)) return false;
    return tries < LOST_TRIES && !this.#closed;
  }

  /** Ends the connection; if its server has become read-only, the idle ones are of no use either. */
  #discard(connection: Connection, error: unknown): void {
    if (isUnfit(error)) this.#pool.forgetIdle();
    this.#pool.discard(connection);
  }

  async #rollback(connection: Connection): Promise<void> {
    try {
      await withTimeout(connection.query('ROLLBACK'), this.#timeoutMs);
      this.#pool.release(connection);
    } catch {
      this.#pool.discard(connection);
    }
  }

  /**
   * Whether a commit in doubt happened. The locking read waits for a transaction that still holds the lane's row, so
   * the answer is final. Asks until the server answers: guessing would lose mail or store it twice.
   */
  async #happened(name: CommitName, lost: unknown): Promise<boolean> {
    this.counts.inDoubt++;
    for (let pauseMs = FATE_PAUSE_MS; !this.#closed; pauseMs = Math.min(pauseMs * 2, LONGEST_FATE_PAUSE_MS)) {
      try {
        const rows = await this.read((connection) =>
          connection.query<{ token: string }[]>('SELECT token FROM relay_commits WHERE lane = ? FOR UPDATE', [
            name.lane,
          ]),
        );
        return rows[0]?.token === name.token;
      } catch {
        await pause(pauseMs); // the server is away, or still busy with the transaction in question
      }
    }
    throw new CommitInDoubt(lost);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool.close();
  }
}

async function transact<T>(
  connection: Connection,
  work: (connection: Connection) => Promise<T>,
  attempt: { committing: boolean; value: T | null },
  name: CommitName | undefined,
): Promise<void> {
  // Without autocommit the first statement begins the transaction.
  attempt.value = await work(connection);
  if (name !== undefined)
    await connection.execute(
      `INSERT INTO relay_commits (lane, token, result, committed_at) VALUES (?, ?, ?, ?)
       ON DUPLICATE KEY UPDATE token = VALUES(token), result = VALUES(result), committed_at = VALUES(committed_at)`,
      [name.lane, name.token, JSON.stringify(name.result()), name.nowMs],
    );
  attempt.committing = true;
  await connection.query('COMMIT');
}

async function committed<T>(
  connection: Connection,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const value = await work(connection);
  await connection.query('COMMIT');
  return value;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
