/**
 * The agenda in Redis: one BullMQ queue of delayed jobs. A job's id is its destination, shard and time, so the same
 * announcement by several nodes is one job. Jobs are hints: one that is lost, late, early or done twice does no harm,
 * because the database is asked what really is due.
 *
 * Redis is either used or given up. It is given up when a command fails or takes too long, when the connection breaks,
 * and when what we wrote is gone (flushed, restarted empty). After that, everything that waits is written down again
 * before Redis is used once more. Every command has a time limit, and no delivery waits for Redis.
 */
import { randomBytes } from 'node:crypto';
import { Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Log } from '../base/log.ts';
import { keyPrefix, openRedis, waitingTwin } from '../base/redis-client.ts';
import { MAX_RETRY_MS, RETRY_MS, type RedisAccess } from '../base/redis-options.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import { within } from '../base/within.ts';
import type { Agenda, AgendaOwner, AgendaStats, Due } from './agenda.ts';
import type { SharedParts } from './parts.ts';
import type { SharedRates } from './rates.ts';
import { BEAT, LEASE_PART, LEASE_TOKENS } from './redis-scripts.ts';
import type { SharedNews } from './shared-news.ts';

export interface BullmqAgendaOptions extends RedisAccess {
  /** After this long without a word from a process it is forgotten: it cannot be sending any more. */
  forgetMs: number;
  /** How many processes to assume until Redis has told how many there are. */
  minProcesses: number;
  /** Name of this process, for display. */
  name: string;
  /** false: this process announces work, but takes none. */
  works: boolean;
  log: Log;
}

const QUEUE = 'due';
const BEAT_MS = 1000;
/** A process whose last beat is older counts as silent. */
const SILENT_MS = 5000;
/** After Redis was used for this long without a fault, the next fault counts as the first again. */
const STEADY_MS = 30_000;
const FLUSH_MS = 20;
const JOBS_PER_FLUSH = 500;
/** Most jobs that wait to be written; when there are more, they are dropped and the queue is read anew. */
const MAX_PENDING = 100_000;
/** After this long without a word from a process, its parts of limits count as given back. */
const PART_LEASE_MS = 10_000;
/** Lines of news that are kept for those who hear them late. */
const MOST_NEWS = 10_000;
const NEWS_AT_ONCE = 1000;
const JOBS_AT_ONCE = 32;
const CLOSE_MS = 2000;

interface JobOf {
  d: string;
  s: number;
}

/** What there is only while Redis is used. */
interface Session {
  queue: Queue<JobOf>;
  worker: Worker<JobOf> | null;
  /** The worker's connections: one for commands, one that waits for jobs. */
  connections: Redis[];
}

/** ioredis makes a method of each script, which its types do not know. */
type Scripted = Redis & {
  relayBeat(
    key: string,
    process: string,
    silentMs: number,
    forgetMs: number,
  ): Promise<[number, number, number]>;
  relayLeasePart(
    key: string,
    process: string,
    held: number,
    wanted: number,
    limit: number,
    leaseMs: number,
  ): Promise<number>;
  relayLeaseTokens(key: string, perSecond: number, size: number, wanted: number): Promise<number>;
};

export class BullmqAgenda implements Agenda, SharedRates, SharedParts, SharedNews {
  readonly #options: BullmqAgendaOptions;
  readonly #process: string;
  readonly #client: Scripted;
  #owner: AgendaOwner | null = null;
  #session: Session | null = null;
  #up = false;
  /** The log says already that Redis is away. */
  #saidLost = false;
  /** Since when Redis is used, or given up; steady time. */
  #sinceMs = steadyMs();
  #lastError = '';
  #members = { all: 1, silent: 0 };
  #announced = 0;
  #taken = 0;
  #outages = 0;
  readonly #pending = new Map<string, Due>();
  /** Keys of limits of which we hold a part. */
  readonly #partKeys = new Set<string>();
  /** The last news that was heard; '' none since Redis was away. */
  #heardId = '';
  #incomplete = false;
  #flushing: Promise<void> | null = null;
  #flushTimer: NodeJS.Timeout | null = null;
  #beating = false;
  #beatTimer: NodeJS.Timeout | null = null;
  #retryMs = RETRY_MS;
  #takes = true;
  #leaving = false;
  #closed = false;

  constructor(options: BullmqAgendaOptions) {
    this.#options = options;
    this.#process = `${options.name}/${randomBytes(6).toString('hex')}`;
    this.#members = { all: options.minProcesses, silent: 0 };
    this.#client = openRedis(options, {
      lazyConnect: true,
      enableOfflineQueue: false,
      maxRetriesPerRequest: null,
      commandTimeout: options.timeoutMs,
      scripts: {
        relayBeat: { lua: BEAT, numberOfKeys: 1 },
        relayLeasePart: { lua: LEASE_PART, numberOfKeys: 1 },
        relayLeaseTokens: { lua: LEASE_TOKENS, numberOfKeys: 1 },
      },
    }) as Scripted;
    this.#client.on('error', (error) => this.#lost(error));
    this.#client.on('ready', () => {
      if (!this.#up) this.#later(0);
    });
    this.#client.on('close', () => {
      // If there was no connection before, the log says already why.
      if (this.#up) this.#lost(new Error('the connection to Redis was closed'));
    });
  }

  get up(): boolean {
    return this.#up;
  }

  get sinceMs(): number {
    return this.#sinceMs;
  }

  members(): { all: number; silent: number } {
    return this.#members;
  }

  start(owner: AgendaOwner): void {
    this.#owner = owner;
    this.#client.connect().catch(() => {}); // its events report the fault, and it tries again by itself
  }

  announce(due: Due): void {
    if (!this.#up) return;
    if (this.#pending.size >= MAX_PENDING) {
      this.#incomplete = true;
      return;
    }
    this.#pending.set(idOf(due), due);
    this.#flushTimer ??= setTimeout(() => {
      this.#flushTimer = null;
      void this.#flush();
    }, FLUSH_MS);
  }

  takes(takes: boolean): void {
    if (takes === this.#takes) return;
    this.#takes = takes;
    const worker = this.#session?.worker;
    if (!worker) return;
    if (takes) void worker.resume();
    else void worker.pause(true);
  }

  leaseTokens(destination: string, perSecond: number, size: number, wanted: number): Promise<number> {
    return this.#client.relayLeaseTokens(this.#key(`rate:${destination}`), perSecond, size, wanted);
  }

  async leaseParts(demands: Parameters<SharedParts['leaseParts']>[0]): Promise<number[]> {
    if (this.#leaving) throw new Error('the relay is about to stop');
    const { timeoutMs } = this.#options;
    const asked = demands.map(({ name, held, wanted, limit }) => {
      const key = this.#key(name);
      if (wanted + held > 0) this.#partKeys.add(key);
      else this.#partKeys.delete(key);
      return this.#client.relayLeasePart(key, this.#process, held, wanted, limit, PART_LEASE_MS);
    });
    return limited(timeoutMs, Promise.all(asked));
  }

  async tell(lines: readonly string[]): Promise<void> {
    const key = this.#key('news');
    const asked = lines.map((line) =>
      this.#client.xadd(key, 'MAXLEN', '~', MOST_NEWS, '*', 'from', this.#process, 'line', line),
    );
    await limited(this.#options.timeoutMs, Promise.all(asked));
  }

  async hear(): Promise<string[]> {
    const key = this.#key('news');
    if (this.#heardId === '')
      this.#heardId = (await this.#client.xrevrange(key, '+', '-', 'COUNT', 1))[0]?.[0] ?? '0';
    const [stream] = (await this.#client.xread('COUNT', NEWS_AT_ONCE, 'STREAMS', key, this.#heardId)) ?? [];
    const lines: string[] = [];
    for (const [id, [, from, , line = '']] of stream?.[1] ?? []) {
      this.#heardId = id;
      if (from !== this.#process) lines.push(line);
    }
    return lines;
  }

  stats(): AgendaStats {
    return {
      sinceMs: timeOfDayMs(this.#sinceMs),
      lastError: this.#lastError,
      processes: this.#members.all,
      silent: this.#members.silent,
      announced: this.#announced,
      taken: this.#taken,
      outages: this.#outages,
    };
  }

  async close(): Promise<void> {
    if (this.#leaving) return;
    this.#leaving = true;
    const session = this.#session;
    if (this.#up && session !== null) {
      // Finish jobs that were begun before the worker leaves, or they would count as stalled.
      await within(CLOSE_MS, session.worker?.close() ?? Promise.resolve());
      await within(CLOSE_MS, this.#flush());
      const leave = this.#client.pipeline().zrem(this.#key('processes'), this.#process);
      for (const key of this.#partKeys) leave.hdel(key, this.#process);
      await within(
        CLOSE_MS,
        leave.exec().catch(() => []),
      );
    }
    this.#closed = true;
    this.#up = false;
    if (this.#beatTimer !== null) clearTimeout(this.#beatTimer);
    if (this.#flushTimer !== null) clearTimeout(this.#flushTimer);
    this.#end(session);
    this.#session = null;
    this.#client.disconnect();
  }

  #key(name: string): string {
    return `${keyPrefix(this.#options)}:${name}`;
  }

  #later(delayMs: number): void {
    if (this.#closed) return;
    if (this.#beatTimer !== null) clearTimeout(this.#beatTimer);
    this.#beatTimer = setTimeout(() => void this.#beat(), delayMs).unref();
  }

  /** Once a second: says that this process lives, and checks that Redis answers and still has what we wrote. */
  async #beat(): Promise<void> {
    // When the client is connected, its event calls this again.
    if (this.#beating || this.#leaving || this.#client.status !== 'ready') return;
    this.#beating = true;
    let pauseMs = BEAT_MS;
    try {
      const { forgetMs, minProcesses } = this.#options;
      const [known, all, silent] = await this.#client.relayBeat(
        this.#key('processes'),
        this.#process,
        SILENT_MS,
        forgetMs,
      );
      this.#members = { all: Math.max(all, minProcesses), silent };
      if (this.#up && known === 0) this.#lost(new Error('Redis lost what was written to it'));
      if (!this.#up) await this.#comeUp();
      else if (this.#incomplete) await this.#writeAll(this.#session as Session);
      if (steadyMs() - this.#sinceMs > STEADY_MS) this.#retryMs = RETRY_MS;
    } catch (error) {
      this.#lost(error as Error);
      pauseMs = this.#retryMs;
      this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
    }
    this.#beating = false;
    this.#later(pauseMs);
  }

  /** Writes down all work that waits, then uses Redis. @throws when that fails. */
  async #comeUp(): Promise<void> {
    this.#end(this.#session);
    const { timeoutMs, works } = this.#options;
    const session: Session = { queue: null as unknown as Queue<JobOf>, worker: null, connections: [] };
    this.#session = session;
    session.queue = new Queue(QUEUE, {
      connection: this.#client,
      prefix: keyPrefix(this.#options),
      streams: { events: { maxLen: 100 } },
    });
    session.queue.on('error', (error) => this.#fault(session, error));
    await limited(timeoutMs, session.queue.waitUntilReady());
    this.#pending.clear();
    // Announcements are written from here on: what comes while the queue is read may be missing in what was read.
    this.#setUp(true);
    await this.#writeAll(session);
    if (works && this.#session === session) this.#startWorker(session);
  }

  async #writeAll(session: Session): Promise<void> {
    this.#incomplete = false;
    let all: Due[];
    try {
      all = await (this.#owner as AgendaOwner).backlog();
    } catch {
      // This fault is the queue's, and no reason to give up Redis: the next beat reads the queue again.
      this.#incomplete = true;
      return;
    }
    for (let i = 0; i < all.length; i += JOBS_PER_FLUSH)
      await this.#write(session, all.slice(i, i + JOBS_PER_FLUSH));
  }

  #startWorker(session: Session): void {
    const connection = waitingTwin(this.#client);
    const own = (client: Redis): Redis => {
      client.on('error', (error) => this.#fault(session, error));
      session.connections.push(client);
      return client;
    };
    own(connection);
    // BullMQ duplicates this connection for the one that waits, and closes the duplicate only while Redis answers.
    const duplicate = connection.duplicate.bind(connection);
    connection.duplicate = (...override: Parameters<typeof duplicate>) => own(duplicate(...override));
    const worker = new Worker<JobOf>(QUEUE, async ({ data }) => this.#take(data), {
      connection,
      prefix: keyPrefix(this.#options),
      concurrency: JOBS_AT_ONCE,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
      // When a process dies, another gets its job. How often that happened says nothing about the job.
      maxStalledCount: 1_000_000,
      // A job takes a moment only, and its lock lasts for half a minute.
      skipLockRenewal: true,
      runRetryDelay: BEAT_MS,
    });
    worker.on('error', (error) => this.#fault(session, error));
    session.worker = worker;
    if (!this.#takes) void worker.pause(true);
  }

  async #take({ d: destination, s: shard }: JobOf): Promise<void> {
    this.#taken++;
    await this.#owner?.due(destination, shard);
  }

  async #flush(): Promise<void> {
    while (this.#flushing !== null) await this.#flushing;
    this.#flushing = this.#flushAll();
    await this.#flushing;
    this.#flushing = null;
  }

  async #flushAll(): Promise<void> {
    const session = this.#session;
    while (this.#up && session !== null && this.#session === session && this.#pending.size > 0) {
      const batch: Due[] = [];
      for (const [id, due] of this.#pending) {
        this.#pending.delete(id);
        if (batch.push(due) === JOBS_PER_FLUSH) break;
      }
      try {
        await this.#write(session, batch);
      } catch (error) {
        this.#fault(session, error as Error);
      }
    }
  }

  async #write({ queue }: Session, batch: Due[]): Promise<void> {
    const nowMs = Date.now();
    const jobs = batch.map((due) => ({
      name: 'due',
      data: { d: due.destination, s: due.shard },
      opts: { jobId: idOf(due), timestamp: nowMs, delay: Math.max(1, due.atMs - nowMs) },
    }));
    await limited(this.#options.timeoutMs, queue.addBulk(jobs));
    this.#announced += jobs.length;
  }

  #fault(session: Session, error: Error): void {
    if (session === this.#session) this.#lost(error);
  }

  #lost(error: Error): void {
    if (this.#closed) return;
    // When several addresses fail, Node's error has no message of its own.
    this.#lastError = error.message || ((error as NodeJS.ErrnoException).code ?? error.name);
    if (this.#up) {
      this.#outages++;
      this.#setUp(false);
      this.#heardId = '';
      this.#pending.clear();
      this.#end(this.#session);
      this.#session = null;
      this.#later(this.#retryMs);
    }
    // This also covers a Redis that could not be used from the start.
    if (this.#saidLost) return;
    this.#saidLost = true;
    this.#options.log.warn('scheduler.redis_lost', {
      error: this.#lastError,
      advice:
        'no mail waits for it: due work is looked for in the queue itself until Redis can be used again',
    });
  }

  #setUp(up: boolean): void {
    if (this.#up === up) return;
    this.#up = up;
    this.#sinceMs = steadyMs();
    if (up) {
      // After an outage the other processes return as we do, so their number is not known yet.
      const count = this.#saidLost ? {} : { processes: this.#members.all };
      this.#saidLost = false;
      this.#options.log.info('scheduler.redis_up', count);
    }
    this.#owner?.changed(up);
  }

  /** Lets go of a session without waiting for Redis. */
  #end(session: Session | null): void {
    if (session === null) return;
    session.worker?.close(true).catch(() => {});
    for (const connection of session.connections) connection.disconnect();
    session.queue?.close().catch(() => {});
  }
}

/** The id of a job. BullMQ reserves colons in ids for itself. */
const idOf = ({ destination, shard, atMs }: Due): string =>
  `${destination.replaceAll('%', '%25').replaceAll(':', '%3a')}|${shard}|${atMs}`;

/** @throws when the work takes longer. */
async function limited<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Redis did not answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
