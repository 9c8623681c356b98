import type { DestinationBacklog, RowChange } from '../database/database.ts';
import type { AttemptResult, Job } from '../mail/job.ts';

/**
 * Decides when which work goes to delivery. The database is the truth; a scheduler holds per destination only a
 * count and a time, so a million waiting recipients cost what their destinations cost.
 */
export interface Scheduler {
  /**
   * Asked before a commit: may this message's row for `destination` go to delivery from memory once committed
   * (then SENDING), or shall it wait in the database (PENDING)? A yes takes a place until `settled` or `returned`.
   */
  reserve(destination: string, recipients: number): boolean;
  /** A reserved row did not commit. */
  cancel(destination: string, recipients: number): void;
  /** A reserved row committed: deliver it. */
  handOff(job: Job): void;
  /**
   * Rows committed as PENDING, or due again: `rows` more wait at `destination` from dueMs.
   * @param queueId of one of them, which tells the shard; absent: it may be any.
   */
  waiting(destination: string, rows: number, dueMs: number, queueId?: string): void;
  /** The result's settlement is durable: its place is free. */
  settled(result: AttemptResult, retryAtMs: number | null): void;
  /** A job came back unfinished (drain, dead delivery thread). */
  returned(job: Job): void;
  /** A delivery thread asks to leave this destination alone until then, in steady time (0: resume now). */
  suspend(destination: string, untilMs: number): void;
  /** An operator changed waiting rows, by so many more or fewer; some are due now, perhaps. */
  changed(changes: RowChange[]): void;
  /** What waits at these destinations now (an operator changed it); rows: 0 where nothing does. */
  refresh(backlog: DestinationBacklog[]): void;
  /** Work found in the database that may be unknown here: at least one row of each is due by then. */
  discover(found: DestinationBacklog[]): void;
  /** Rebuilds the waiting side (start). */
  rebuild(backlog: DestinationBacklog[]): void;
  /** Counts for `queue stats` and metrics. */
  stats(): {
    destinations: number;
    waitingRows: number;
    inFlight: number;
    /** Until a time of day, as it is to be shown. */
    suspended: { destination: string; untilMs: number }[];
    /** What the nodes that share the queue have in common; absent with `embedded`. */
    cluster?: ClusterStats;
  };
  start(): void;
  /** Stops claiming and handing over. */
  stop(): void;
  /** After `stop`, once the last rows were given back: what is held elsewhere is let go. */
  close(): Promise<void>;
}

export interface ClusterStats {
  /** false: Redis cannot be used, the nodes look for due work in the queue itself. */
  up: boolean;
  sinceMs: number;
  /** Why it was given up last; '' when it never was. */
  lastError: string;
  /** Relay processes that share the limits of destinations, as far as known. */
  processes: number;
  /** Those of them that were not heard of lately. */
  silent: number;
  /** Jobs of BullMQ this process asked for and took over, since its start; how often Redis was lost. */
  announced: number;
  taken: number;
  outages: number;
}

/** How many messages of a destination may go to delivery: a rate. Asked on the hot path, so it answers at once. */
export interface Rates {
  /** @returns how many of `wanted` may go now. */
  take(destination: string, wanted: number): number;
  /** So many did not go. */
  giveBack(destination: string, count: number): void;
}

/** What a scheduler is given by relay.ts. */
export interface SchedulerPorts {
  claim(
    destination: string,
    limit: number,
  ): Promise<{ jobs: Job[]; nextDueMs: number | null; short: boolean }>;
  deliver(jobs: Job[]): void;
  /** Room for content: in all, and free now. */
  contentBytes: number;
  freeContentBytes(): number;
  /** The time of day, by which rows are due. */
  now(): number;
  /** Steady time, for pauses and suspensions; absent: `now` is. */
  steady?(): number;
  /** @param atMs in steady time. */
  setTimer(atMs: number, fire: () => void): { cancel(): void };
  /** Absent: destinations have no limit of rate. */
  rates?: Rates;
}
