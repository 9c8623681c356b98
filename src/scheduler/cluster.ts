/**
 * The scheduler of nodes that share a queue. The database stays the truth. An agenda (BullMQ over Redis) says when a
 * destination has due rows on a shard, and hands each such job to one process. That process uses an embedded scheduler
 * for the job, as for its own rows. While the agenda cannot be used, every process finds due rows by asking the queue
 * (`pollIntervalMs`), so that no delivery waits for Redis.
 *
 * Due rows that find no place here are announced to all processes after a moment: one that has room takes them.
 */
import type { ClaimResult, DestinationBacklog, RowChange, ShardBacklog } from '../database/database.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import type { Agenda, Due } from './agenda.ts';
import { EmbeddedScheduler, type EmbeddedSchedulerOptions } from './embedded.ts';
import type { DestinationStanding, Scheduler, SchedulerPorts } from './scheduler.ts';

export interface ClusterSchedulerPorts extends Omit<SchedulerPorts, 'claim'> {
  claim(destination: string, limit: number, shards: number): Promise<ClaimResult>;
  backlogByShard(): Promise<ShardBacklog[]>;
}

export interface ClusterSchedulerOptions extends EmbeddedSchedulerOptions {
  shardIds: readonly number[];
  /** How often the queue is asked for due work while the agenda is up. */
  reconcileIntervalMs: number;
  /** How often while it is not. */
  pollIntervalMs: number;
  /** Called when the agenda fails, and so the interval between polls becomes shorter. */
  onPollFaster(): void;
}

/**
 * When due rows have waited here for a place for this long, other processes are told; longer with many destinations.
 */
const TELL_OTHERS_AFTER_MS = 1000;
const TELL_OTHERS_MS_PER_DESTINATION = 5;
/** How long a job is kept while this process cannot claim its rows. */
const KEEP_JOB_MS = 500;
/**
 * While a destination is suspended here, its due rows are left to this process for at most this long; then others are
 * told.
 */
const LONGEST_SUSPENDED_ALONE_MS = 15_000;
/** How often this process looks whether it has room for more work. */
const ROOM_LOOK_MS = 100;
/** It stops, or begins again, to take jobs after this many looks in a row that agree; single places come and go. */
const LOOKS_THAT_AGREE = 3;
/** Most announced times remembered. A time that was forgotten is announced once more, which does no harm. */
const MAX_ANNOUNCED_TIMES = 200_000;
/** Due times are rounded up to steps of 1/n of the delay, within these bounds, so that many rows share a job. */
const STEP_SHARE = 16;
const SHORTEST_STEP_MS = 64;
const LONGEST_STEP_MS = 4096;

/** Due rows of a destination that this process may claim. */
interface Here {
  /** One bit for each shard with such rows. */
  shards: number;
  /** Jobs that wait for the next claim. */
  waiters: (() => void)[];
}

export class ClusterScheduler implements Scheduler {
  readonly #ports: ClusterSchedulerPorts;
  readonly #options: ClusterSchedulerOptions;
  readonly #agenda: Agenda;
  readonly #inner: EmbeddedScheduler;
  readonly #allShards: number;
  readonly #here = new Map<string, Here>();
  /** Times announced by this process and not yet over, by shard and destination. */
  readonly #known = new Map<string, number>();
  #running = false;
  #fullLooks = 0;
  #roomTimer: { cancel(): void } | null = null;

  constructor(ports: ClusterSchedulerPorts, options: ClusterSchedulerOptions, agenda: Agenda) {
    this.#ports = ports;
    this.#options = options;
    this.#agenda = agenda;
    this.#allShards = options.shardIds.reduce((mask, id) => mask | (1 << id), 0);
    this.#inner = new EmbeddedScheduler(
      { ...ports, claim: (destination, limit) => this.#claim(destination, limit) },
      options,
    );
  }

  start(): void {
    this.#running = true;
    this.#inner.start();
    this.#agenda.start({
      due: (destination, shard) => this.#take(destination, shard),
      backlog: () => this.#backlog(),
      changed: (up) => {
        this.#known.clear();
        if (!up) this.#options.onPollFaster();
      },
    });
    this.#watchRoom();
  }

  stop(): void {
    this.#running = false;
    this.#inner.stop();
    this.#roomTimer?.cancel();
    this.#agenda.takes(false);
    // Rows that waited here for a place are due for all processes now.
    for (const [destination, here] of this.#here) {
      this.#announceShards(destination, here.shards, 0);
      this.#wake(here);
    }
    this.#here.clear();
  }

  close(): Promise<void> {
    return this.#agenda.close();
  }

  /** How often the queue itself is asked for due work at present. */
  pollIntervalMs(): number {
    return this.#agenda.up ? this.#options.reconcileIntervalMs : this.#options.pollIntervalMs;
  }

  reserve(destination: string, recipients: number): boolean {
    return this.#inner.reserve(destination, recipients);
  }

  cancel(destination: string, recipients: number): void {
    this.#inner.cancel(destination, recipients);
  }

  handOff(job: Job): void {
    this.#inner.handOff(job);
  }

  waiting(destination: string, rows: number, dueMs: number, queueId?: string): void {
    if (rows === 0) return;
    const shards = this.#shardsOf(queueId);
    if (this.#running && this.#options.enabled && dueMs <= this.#ports.now()) {
      this.#due(destination, shards);
      this.#inner.waiting(destination, rows, dueMs);
    } else this.#announceShards(destination, shards, dueMs);
  }

  settled(result: AttemptResult, retryAtMs: number | null): void {
    if (retryAtMs !== null) this.waiting(result.destination, 1, retryAtMs, result.queueId);
    this.#inner.settled(result, null);
  }

  returned(job: Job): void {
    this.#due(job.destination, this.#shardsOf(job.queueId));
    this.#inner.returned(job);
  }

  suspend(destination: string, untilMs: number, reason?: string): void {
    this.#inner.suspend(destination, untilMs, reason);
  }

  rulesChanged(): void {
    this.#inner.rulesChanged();
  }

  rebuild(backlog: DestinationBacklog[]): void {
    // Rows that are due later are announced when the agenda comes up, from the queue as it is then.
    this.discover(backlog.filter(({ nextDueMs }) => nextDueMs <= this.#ports.now()));
  }

  refresh(backlog: DestinationBacklog[]): void {
    const nowMs = this.#ports.now();
    const gone = backlog.filter(({ rows }) => rows === 0);
    for (const { destination } of gone) this.#here.delete(destination);
    this.#inner.refresh(gone);
    this.discover(backlog.filter(({ rows, nextDueMs }) => rows > 0 && nextDueMs <= nowMs));
    for (const { destination, rows, nextDueMs } of backlog)
      if (rows > 0 && nextDueMs > nowMs) this.#announceShards(destination, this.#allShards, nextDueMs);
  }

  changed(changes: RowChange[]): void {
    // Nothing here counts waiting rows, so the destination is looked at now.
    const nextDueMs = this.#ports.now();
    const perhaps = changes.filter(({ rows }) => rows >= 0);
    this.discover(perhaps.map(({ destination }) => ({ destination, rows: 1, nextDueMs })));
  }

  discover(found: DestinationBacklog[]): void {
    // The other processes find these rows themselves, so they are not told.
    for (const { destination } of found) this.#due(destination, this.#allShards, false);
    this.#inner.discover(found);
  }

  belongs(destination: string, site: string): void {
    this.#inner.belongs(destination, site);
  }

  standing(destination: string): DestinationStanding {
    return this.#inner.standing(destination);
  }

  stats(): ReturnType<Scheduler['stats']> {
    const { up } = this.#agenda;
    return { ...this.#inner.stats(), cluster: { up, ...this.#agenda.stats() } };
  }

  /**
   * Takes a job of the agenda: claims rows of the destination as soon as there is room, or else leaves them to others.
   */
  async #take(destination: string, shard: number): Promise<void> {
    if (!this.#running) {
      this.#announce({ destination, shard, atMs: 0 });
      return;
    }
    const nowMs = this.#ports.now();
    this.#known.delete(`${shard} ${destination}`);
    const here = this.#due(destination, 1 << shard, false);
    const untilMs =
      this.#ports.held?.(destination) === true ? Infinity : this.#inner.suspendedUntilMs(destination);
    const claimed = new Promise<void>((resolve) => here.waiters.push(resolve));
    this.#inner.discover([{ destination, rows: 1, nextDueMs: nowMs }]);
    const steadyMs = this.#steady();
    if (untilMs > steadyMs) this.#wake(here);
    else {
      const timer = this.#ports.setTimer(steadyMs + KEEP_JOB_MS, () => this.#wake(here));
      await claimed;
      timer.cancel();
    }
    if ((here.shards & (1 << shard)) === 0) return;
    // The rows were not claimed. They wait here for a place, but another process may have one.
    const pauseMs = Math.min(untilMs - steadyMs, LONGEST_SUSPENDED_ALONE_MS);
    this.#announce({ destination, shard, atMs: this.#ports.now() + Math.max(this.#helpMs(), pauseMs) });
  }

  async #claim(destination: string, limit: number): Promise<ClaimResult> {
    const here = this.#here.get(destination);
    const shards = here?.shards || this.#allShards;
    if (here !== undefined) here.shards = 0;
    let result: ClaimResult;
    try {
      result = await this.#ports.claim(destination, limit, shards);
    } catch (error) {
      this.#due(destination, shards);
      throw error;
    }
    const nowMs = this.#ports.now();
    for (const { shard, nextDueMs } of result.shards ?? []) {
      if (nextDueMs === null) continue;
      if (nextDueMs <= nowMs) this.#due(destination, 1 << shard);
      else this.#announce({ destination, shard, atMs: nextDueMs });
    }
    const after = this.#here.get(destination);
    if (after !== undefined) {
      this.#wake(after);
      if (after.shards === 0) this.#here.delete(destination);
    }
    const more = after !== undefined && after.shards !== 0;
    return { jobs: result.jobs, nextDueMs: more ? nowMs : null, short: result.short };
  }

  /** Rows of these shards are due here. @param tell whether to tell the other processes if nobody takes them soon. */
  #due(destination: string, shards: number, tell = true): Here {
    let here = this.#here.get(destination);
    if (here === undefined) {
      here = { shards: 0, waiters: [] };
      this.#here.set(destination, here);
    }
    here.shards |= shards;
    if (tell) this.#announceShards(destination, shards, this.#ports.now() + this.#helpMs());
    return here;
  }

  #wake(here: Here): void {
    for (const resolve of here.waiters.splice(0)) resolve();
  }

  #helpMs(): number {
    return TELL_OTHERS_AFTER_MS + TELL_OTHERS_MS_PER_DESTINATION * this.#here.size;
  }

  #steady(): number {
    return this.#ports.steady?.() ?? this.#ports.now();
  }

  #shardsOf(queueId: string | undefined): number {
    return queueId === undefined ? this.#allShards : 1 << shardOfQueueId(queueId);
  }

  #announceShards(destination: string, shards: number, atMs: number): void {
    if (!this.#agenda.up) return;
    for (const shard of this.#options.shardIds)
      if ((shards & (1 << shard)) !== 0) this.#announce({ destination, shard, atMs });
  }

  /** Announces work, unless an earlier time was announced already. */
  #announce({ destination, shard, atMs }: Due): void {
    if (!this.#agenda.up) return;
    const nowMs = this.#ports.now();
    const key = `${shard} ${destination}`;
    const known = this.#known.get(key);
    const roundedMs = roundUp(nowMs, atMs);
    if (known !== undefined && known > nowMs && known <= roundedMs) return;
    if (this.#known.size >= MAX_ANNOUNCED_TIMES) this.#known.clear();
    this.#known.set(key, roundedMs);
    this.#agenda.announce({ destination, shard, atMs: roundedMs });
  }

  async #backlog(): Promise<Due[]> {
    const nowMs = this.#ports.now();
    const all = await this.#ports.backlogByShard();
    return all
      .filter(({ rows }) => rows > 0)
      .map(({ destination, shard, nextDueMs }) => ({ destination, shard, atMs: roundUp(nowMs, nextDueMs) }));
  }

  /** Keeps a process without room from taking jobs: they are for processes that have room. */
  #watchRoom(): void {
    if (!this.#running) return;
    this.#fullLooks = this.#inner.full
      ? Math.min(this.#fullLooks + 1, LOOKS_THAT_AGREE)
      : Math.max(this.#fullLooks - 1, 0);
    if (this.#fullLooks === LOOKS_THAT_AGREE) this.#agenda.takes(false);
    else if (this.#fullLooks === 0) this.#agenda.takes(true);
    this.#roomTimer = this.#ports.setTimer(this.#steady() + ROOM_LOOK_MS, () => this.#watchRoom());
  }
}

/** The rounded time of a job. It is later than now, so that its id differs from those of jobs that are being done. */
function roundUp(nowMs: number, atMs: number): number {
  const share = Math.max(0, atMs - nowMs) / STEP_SHARE;
  const step = Math.min(
    LONGEST_STEP_MS,
    Math.max(SHORTEST_STEP_MS, 2 ** Math.floor(Math.log2(Math.max(1, share)))),
  );
  return Math.ceil(Math.max(atMs, nowMs + 1) / step) * step;
}
