/**
 * The queue database as the main thread sees it: the Database interface, done by the persistence pool. Owns the
 * pool; finds out what became of a commit whose thread died; starts checkpoints when nobody waits for them.
 */
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { RelayError } from '../base/errors.ts';
import type {
  ClaimRequest,
  ClaimResult,
  CommitBatch,
  CommitResult,
  Database,
  DestinationBacklog,
  JournalMark,
  LeasedKey,
  MailDetail,
  NodeSlot,
  OperateAction,
  OperateBounds,
  OperatePart,
  OperateResult,
  QueueFilter,
  Recovered,
  ReleasedRow,
  RulesAnswer,
  Selection,
  SuspectedRow,
} from '../database/database.ts';
import type { FailedLimits, FailedMark } from '../database/kept-failed.ts';
import { failedCut, listBySlices, operateBySlices, statsBySlices } from '../database/slices.ts';
import type { BegunRow } from '../mail/begun-slots.ts';
import { type Counted, type CountKey, countBySlices } from '../mail/queue-counts.ts';
import { rowsOfLines } from '../mail/queue-lines.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import type { QueueFile, QueueStats } from '../mail/queue-stats.ts';
import type { SuppressionAnswers, SuppressionAsk } from '../mail/suppression.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { SuspectMark } from '../mail/suspicion.ts';
import type { SayNote } from '../storage/notes.ts';
import { decodeResult, encodeBatch } from './batch-wire.ts';
import { type Answer, fromFault, type PersistenceStart, type Task, type TaskResults } from './tasks.ts';

/** What runs tasks: piscina, or a QueueThread in the same thread (tests, a stopped relay's queue). */
export interface TaskPool {
  run(task: Task, shard: number): Promise<Answer>;
  destroy(): Promise<void>;
}

/**
 * After this much was written to the database's log, a checkpoint is asked for. Measured: with 4 MB a commit that waits
 * for a checkpoint takes 8 ms with mail of 1 KB and 15 ms with 10 KB (p99); with 16 MB it takes 18–41 and 75–118 ms.
 */
const CHECKPOINT_BYTES = 4 * 1024 * 1024;

/** After a walk over what failed comes a pause of at least this, and of so many times as long as the walk took. */
const WALK_PAUSE_MS = 1000;
const WALK_REST = 50;

/** How many tasks one thread does at the same time with servers: they wait for replies, not for the processor. */
const TASKS_AT_ONCE = 64;

/** Storage that finishes, repairs and deletes objects after the commits needs its thread's event loop between tasks. */
function worksBehindCommits({ config }: PersistenceStart): boolean {
  const { distributed, hdfs_web } = config.storage;
  return distributed.roots.length + hdfs_web.endpoints.length > 0;
}

export interface PoolOptions {
  /** 1 with sqlite, because the file has one writer. */
  threads?: number;
  /** Is given what the storage has to tell the operator. */
  say?: SayNote;
}

export function startPool(
  start: PersistenceStart,
  { threads = 1, say = () => {} }: PoolOptions = {},
): TaskPool & { readonly threads: Worker[] } {
  const embedded = start.config.database.driver === 'sqlite';
  const pool = new Piscina({
    filename: fileURLToPath(new URL('./worker.ts', import.meta.url)),
    workerData: start,
    minThreads: threads,
    maxThreads: threads,
    idleTimeout: Number.POSITIVE_INFINITY,
    concurrentTasksPerWorker: embedded ? 1 : TASKS_AT_ONCE,
    // With sqlite the thread sleeps on the task counter instead of in its event loop, which more than halves the
    // latency of a commit. This would stop storage that works on after commits (replicas, repair, deletions).
    atomics: embedded && !worksBehindCommits(start) ? 'sync' : 'disabled',
    // The arena closes files of content that were opened here. At the thread's end Node would close their numbers,
    // which may be other files by then.
    trackUnmanagedFds: false,
    recordTiming: false,
    workerHistogram: false,
  });
  pool.on('message', say);
  pool.on('error', () => {}); // the thread ended between tasks; the next task gets a new one, and fails if there is none
  return {
    run: (task, shard) => pool.run({ task, shard }),
    destroy: () => pool.destroy(),
    get threads() {
      return pool.threads as Worker[];
    },
  };
}

export interface DatabaseClientOptions {
  /** Number of the shard that all tasks of this client are for. */
  shard?: number;
  now?: () => number;
}

export class DatabaseClient implements Database {
  readonly #pool: TaskPool;
  readonly #now: () => number;
  /** Part of the names of claims: tells those of this life from those of others. */
  readonly #life = randomBytes(4).toString('hex');
  #claims = 0;
  /** Names of claims whose outcome nobody learned, because their thread died. */
  readonly #unlearned: string[] = [];
  readonly #shard: number;
  #walkAtMs = 0;
  /** Failed messages up to this one are over the limits. */
  #failedCut: FailedMark | null = null;
  #mails = 0;
  #logBytes = 0;
  #file: QueueFile | null = null;
  #checkpointing = false;
  #running = 0;

  constructor(pool: TaskPool, { shard = 0, now = Date.now }: DatabaseClientOptions = {}) {
    this.#pool = pool;
    this.#shard = shard;
    this.#now = now;
  }

  /** Tasks under way; each has one connection, or waits for one. */
  get running(): number {
    return this.#running;
  }

  /** Number of messages held where database.max_messages limits it (`:memory:`); else 0. */
  get mails(): number {
    return this.#mails;
  }

  async #run<K extends Task['kind']>(task: Extract<Task, { kind: K }>): Promise<TaskResults[K]> {
    this.#running++;
    let answer: Answer;
    try {
      answer = await this.#pool.run(task, this.#shard);
    } finally {
      this.#running--;
    }
    this.#mails = answer.mails;
    this.#logBytes = answer.logBytes;
    this.#file = answer.file ?? this.#file;
    if (answer.fault !== null) throw fromFault(answer.fault);
    return answer.value as TaskResults[K];
  }

  /** Does a task, and does it once more when the thread died: for tasks that may be done twice. */
  async #again<K extends Task['kind']>(task: Extract<Task, { kind: K }>): Promise<TaskResults[K]> {
    try {
      return await this.#run(task);
    } catch (error) {
      if (error instanceof RelayError) throw error;
      return this.#run(task).catch((second) => {
        throw threadDied(second);
      });
    }
  }

  async commit(batch: CommitBatch): Promise<CommitResult> {
    let result: CommitResult;
    try {
      result = decodeResult(await this.#run({ kind: 'commit', batch: encodeBatch(batch) }), batch);
    } catch (error) {
      if (error instanceof RelayError) throw error;
      const fate = await this.#again({ kind: 'fate', token: batch.token });
      if (fate === null) throw threadDied(error);
      result = fate;
    }
    this.#checkpointWhenDue();
    return result;
  }

  async fate(token: string): Promise<CommitResult | null> {
    return this.#again({ kind: 'fate', token });
  }

  /** Asks for a checkpoint after the answer to this commit went out, so that only later mail waits for it. */
  #checkpointWhenDue(): void {
    if (this.#logBytes < CHECKPOINT_BYTES || this.#checkpointing) return;
    this.#checkpointing = true;
    // A checkpoint that fails leaves the log longer. The next commit meets the same disk and reports the fault.
    const done = (): void => {
      this.#checkpointing = false;
    };
    this.#run({ kind: 'checkpoint' }).then(done, done);
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    await this.#giveBack();
    const owner = `${this.#life}-${++this.#claims}`;
    try {
      return await this.#run({ kind: 'claim', request, owner });
    } catch (error) {
      if (error instanceof RelayError) throw error;
      this.#unlearned.push(owner);
      await this.#giveBack();
      throw threadDied(error);
    }
  }

  /** Gives back rows that a thread had claimed when it died: they would stay SENDING. No claim is made before that. */
  async #giveBack(): Promise<void> {
    for (let owner = this.#unlearned[0]; owner !== undefined; owner = this.#unlearned[0]) {
      await this.#again({ kind: 'unclaim', owner, nowMs: this.#now() });
      if (this.#unlearned[0] === owner) this.#unlearned.shift();
    }
  }

  backlog(): Promise<DestinationBacklog[]> {
    return this.#again({ kind: 'backlog' });
  }

  due(nowMs: number): Promise<DestinationBacklog[]> {
    return this.#again({ kind: 'due', nowMs });
  }

  /** @param fresh true when the process begins; false for a shard that came back. */
  recover(nowMs: number, fresh = true): Promise<Recovered> {
    return this.#again({ kind: 'recover', nowMs, fresh });
  }

  /** Is not repeated when the thread died: it may have been done already. */
  suspect(rows: BegunRow[], nowMs: number): Promise<SuspectedRow[]> {
    return this.#run({ kind: 'suspect', rows, nowMs }).catch((error: unknown) => {
      throw threadDied(error);
    });
  }

  async markSuspects(rows: SuspectMark[]): Promise<void> {
    await this.#again({ kind: 'markSuspects', rows });
  }

  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number> {
    return this.#again({ kind: 'renew', rows, leaseUntilMs });
  }

  enroll(slot: NodeSlot): Promise<boolean> {
    return this.#again({ kind: 'enroll', slot });
  }

  shardsOfUsers(users: string[]): Promise<(string | null)[]> {
    return this.#again({ kind: 'shardsOfUsers', users });
  }

  journalMark(journal: string): Promise<{ mark: JournalMark; queue: string }> {
    return this.#again({ kind: 'journalMark', journal });
  }

  exchangeRules(news: SuspensionRule[], digest: string): Promise<RulesAnswer> {
    return this.#again({ kind: 'exchangeRules', news, digest });
  }

  /** Asks the suppression list of this queue. @param file of another process's queue, instead of ours. */
  suppression<A extends SuppressionAsk>(
    ask: A,
    file: string | null = null,
  ): Promise<SuppressionAnswers[A['op']]> {
    return this.#again({ kind: 'suppression', ask, file }) as Promise<SuppressionAnswers[A['op']]>;
  }

  async ping(): Promise<void> {
    await this.#again({ kind: 'ping' });
  }

  /** Removes objects no mail of any shard refers to. */
  sweep(): Promise<number> {
    return this.#again({ kind: 'sweep' });
  }

  async release(rows: ReleasedRow[], nowMs: number): Promise<void> {
    await this.#again({ kind: 'release', rows, nowMs });
  }

  async purge(nowMs: number, limit: number, keep?: FailedLimits): Promise<number> {
    if (keep !== undefined) await this.#walkFailed(nowMs, keep);
    return this.#again({ kind: 'purge', nowMs, limit, cut: this.#failedCut });
  }

  /** Looks which failed messages have no room any more: so seldom that it takes a small share of the time. */
  async #walkFailed(nowMs: number, keep: FailedLimits): Promise<void> {
    if (nowMs < this.#walkAtMs) return;
    const begunMs = this.#now();
    this.#failedCut = await failedCut(keep, (left, before) => this.#again({ kind: 'failed', left, before }));
    this.#walkAtMs = nowMs + WALK_PAUSE_MS + WALK_REST * (this.#now() - begunMs);
  }

  async list(filter: QueueFilter): Promise<QueueRow[]> {
    return rowsOfLines(await this.lines(filter));
  }

  lines(filter: QueueFilter): Promise<string[]> {
    return listBySlices(filter, (part) => this.#again({ kind: 'lines', filter: part }));
  }

  count(selection: Selection, by: CountKey | null): Promise<Counted> {
    return countBySlices((after) => this.#again({ kind: 'count', selection, by, after }));
  }

  show(queueId: string): Promise<MailDetail | null> {
    return this.#again({ kind: 'show', queueId });
  }

  content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    return this.#again({ kind: 'content', queueId, offset, maxBytes });
  }

  /** The file of the queue as it was measured last; null: it is on a server. */
  get file(): QueueFile | null {
    return this.#file;
  }

  /** Gives free space of the file back, where mail need not wait long for it. */
  compact(): Promise<boolean> {
    return this.#again({ kind: 'compact' });
  }

  async stats(): Promise<QueueStats> {
    const nowMs = Date.now();
    const stats = await statsBySlices((after) => this.#again({ kind: 'stats', after, nowMs }));
    return this.#file === null ? stats : { ...stats, file: this.#file };
  }

  operate(
    action: OperateAction,
    selection: Selection,
    nowMs: number,
    done?: (part: OperatePart) => void,
    bounds?: OperateBounds,
  ): Promise<OperateResult> {
    return operateBySlices(
      (after, within) => this.#again({ kind: 'operate', action, selection, nowMs, after, within }),
      done,
      bounds,
    );
  }

  /** Waits for tasks under way, writes the log back into the database file, and ends the pool. */
  async close(): Promise<void> {
    try {
      await this.#run({ kind: 'close' });
    } finally {
      await this.#pool.destroy();
    }
  }
}

function threadDied(error: unknown): RelayError {
  if (error instanceof RelayError) return error;
  return new RelayError(
    'database_unavailable',
    `the persistence thread ended: ${error instanceof Error ? error.message : String(error)}`,
    error,
  );
}
