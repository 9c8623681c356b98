/**
 * The scheduler of nodes that share a queue. The database stays the truth. An agenda (BullMQ over Redis) says when
 * which destination of which shard has rows due, and hands each such job to one process; what that process does with
 * it, and what it has at hand itself, goes the way of the embedded scheduler. While the agenda cannot be used, every
 * process finds due rows by asking the queue (`pollIntervalMs`), so that no delivery waits for Redis.
 *
 * Rows that are due and find no place here are announced to all after a moment: whoever has room takes them.
 */
import type { ClaimResult, DestinationBacklog, RowChange, ShardBacklog } from '../database/database.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import type { Agenda, Due } from './agenda.ts';
import { EmbeddedScheduler, type EmbeddedSchedulerOptions } from './embedded.ts';
import type { Scheduler, SchedulerPorts } from './scheduler.ts';

export interface ClusterSchedulerPorts extends Omit<SchedulerPorts, 'claim'> {
  claim(destination: string, limit: number, shards: number): Promise<ClaimResult>;
  backlogByShard(): Promise<ShardBacklog[]>;
}

export interface ClusterSchedulerOptions extends EmbeddedSchedulerOptions {
  shardIds: readonly number[];
  /** How often the queue is asked for due work while the agenda is up, and while it is not. */
  reconcileIntervalMs: number;
  pollIntervalMs: number;
  /** The interval became shorter. */
  onPollFaster(): void;
}

/** How soon others are told of due rows that wait here for a place; longer with many destinations. */
const HELP_MS = 1000;
const HELP_MS_PER_DESTINATION = 5;
/** How long a job is kept while this process cannot claim its rows. */
const HOLD_MS = 500;
/** Others hear of a destination that is suspended here so much later, at most. */
const SUSPENDED_MS = 15_000;
/** How often it is seen whether there is room for more work. */
const ROOM_MS = 100;
/** So many looks must agree: jobs are not to be given up and taken again for a place that comes and goes. */
const FULL_LOOKS = 3;
/** Announced times remembered at most: what is not is announced once more. */
const MAX_KNOWN = 200_000;
/** Times are rounded up to a share (1/n) of the delay, within these bounds, so that many rows share a job. */
const ROUND_SHARE = 16;
const ROUND_MIN_MS = 64;
const ROUND_MAX_MS = 4096;

/** What is due here at a destination. */
interface Here {
  /** One bit for each shard. */
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
    // What waited here for a place is due for all.
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

  suspend(destination: string, untilMs: number): void {
    this.#inner.suspend(destination, untilMs);
  }

  rebuild(backlog: DestinationBacklog[]): void {
    // What is due later is announced when the agenda comes up, from the queue as it is then.
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
    // Nobody counts here what waits; what may be due is looked for.
    const nextDueMs = this.#ports.now();
    const perhaps = changes.filter(({ rows }) => rows >= 0);
    this.discover(perhaps.map(({ destination }) => ({ destination, rows: 1, nextDueMs })));
  }

  discover(found: DestinationBacklog[]): void {
    // Others find it too.
    for (const { destination } of found) this.#due(destination, this.#allShards, false);
    this.#inner.discover(found);
  }

  stats(): ReturnType<Scheduler['stats']> {
    const { up } = this.#agenda;
    return { ...this.#inner.stats(), cluster: { up, ...this.#agenda.stats() } };
  }

  /** A job of the agenda: rows of the destination are claimed as soon as there is room for some, or left to others. */
  async #take(destination: string, shard: number): Promise<void> {
    if (!this.#running) {
      this.#announce({ destination, shard, atMs: 0 });
      return;
    }
    const nowMs = this.#ports.now();
    this.#known.delete(`${shard} ${destination}`);
    const here = this.#due(destination, 1 << shard, false);
    const untilMs = this.#inner.suspendedUntilMs(destination);
    const claimed = new Promise<void>((resolve) => here.waiters.push(resolve));
    this.#inner.discover([{ destination, rows: 1, nextDueMs: nowMs }]);
    const steadyMs = this.#steady();
    if (untilMs > steadyMs) this.#wake(here);
    else {
      const timer = this.#ports.setTimer(steadyMs + HOLD_MS, () => this.#wake(here));
      await claimed;
      timer.cancel();
    }
    if ((here.shards & (1 << shard)) === 0) return;
    // Not claimed: it waits here for a place, and elsewhere somebody may have one.
    const pauseMs = Math.min(untilMs - steadyMs, SUSPENDED_MS);
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

  /** Rows of these shards are due here. Others hear of it when they are not taken soon. */
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
    return HELP_MS + HELP_MS_PER_DESTINATION * this.#here.size;
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

  /** Announces it, unless an earlier time was announced already. */
  #announce({ destination, shard, atMs }: Due): void {
    if (!this.#agenda.up) return;
    const nowMs = this.#ports.now();
    const key = `${shard} ${destination}`;
    const known = this.#known.get(key);
    const roundedMs = roundUp(nowMs, atMs);
    if (known !== undefined && known > nowMs && known <= roundedMs) return;
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
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

  /** A process without room takes no jobs: they are for those that have some. */
  #watchRoom(): void {
    if (!this.#running) return;
    this.#fullLooks = this.#inner.full
      ? Math.min(this.#fullLooks + 1, FULL_LOOKS)
      : Math.max(this.#fullLooks - 1, 0);
    if (this.#fullLooks === FULL_LOOKS) this.#agenda.takes(false);
    else if (this.#fullLooks === 0) this.#agenda.takes(true);
    this.#roomTimer = this.#ports.setTimer(this.#steady() + ROOM_MS, () => this.#watchRoom());
  }
}

/** Later than now: an id with this time belongs to no job that somebody is at. */
function roundUp(nowMs: number, atMs: number): number {
  const share = Math.max(0, atMs - nowMs) / ROUND_SHARE;
  const step = Math.min(ROUND_MAX_MS, Math.max(ROUND_MIN_MS, 2 ** Math.floor(Math.log2(Math.max(1, share)))));
  return Math.ceil(Math.max(atMs, nowMs + 1) / step) * step;
}
