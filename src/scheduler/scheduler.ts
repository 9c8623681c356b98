import type { DestinationBacklog, RowChange } from '../database/database.ts';
import type { AttemptResult, Job } from '../mail/job.ts';

/**
 * Decides which work goes to delivery, and when. The database is the truth; a scheduler holds only a count and a time
 * per destination, so that a million waiting recipients cost no more than their destinations.
 */
export interface Scheduler {
  /**
   * Asked before a commit: may this message's row for `destination` go to delivery from memory once committed
   * (then SENDING), or must it wait in the database (PENDING)? true takes a place until `settled` or `returned`.
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
  /** The result's settlement is durable, so its place is free. */
  settled(result: AttemptResult, retryAtMs: number | null): void;
  /** A job came back unfinished (drain, dead delivery thread). */
  returned(job: Job): void;
  /** A delivery thread asks to leave this destination alone. @param untilMs in steady time; 0: resume now. */
  suspend(destination: string, untilMs: number, reason?: string): void;
  /** A delivery thread found which site the destination belongs to: what its places and limits are shared by. */
  belongs(destination: string, site: string): void;
  /** Rules of operators hold other destinations than before (SchedulerPorts.held). */
  rulesChanged(): void;
  /** An operator's action changed the number of waiting rows; some of them may be due now. */
  changed(changes: RowChange[]): void;
  /** Says what waits at these destinations after an operator's action; rows: 0 where nothing does. */
  refresh(backlog: DestinationBacklog[]): void;
  /**
   * Work found in the database that may be unknown here: at least one row of each destination is due at `nextDueMs`. Where
   * nobody else takes rows of the queue, `rows` is how many wait.
   */
  discover(found: DestinationBacklog[]): void;
  /** Takes what waits in the database at the start. */
  rebuild(backlog: DestinationBacklog[]): void;
  /** Counts for `queue stats` and metrics. */
  stats(): {
    destinations: number;
    waitingRows: number;
    inFlight: number;
    /** Suspended destinations, at most MOST_SUSPENDED of them: those with most entries. */
    suspended: SuspendedDestination[];
    /** How many are. */
    suspendedDestinations: number;
    /** The state of what the nodes share; absent with `embedded`. */
    cluster?: ClusterStats;
  };
  /** What keeps mail from this destination now. */
  standing(destination: string): DestinationStanding;
  start(): void;
  /** Stops claiming and handing over. */
  stop(): void;
  /** To be called after `stop`, when the last rows were given back: leaves what the nodes share. */
  close(): Promise<void>;
}

/** `untilMs` is a time of day, for display. */
export interface SuspendedDestination {
  destination: string;
  untilMs: number;
  reason: string;
}

/** What a process knows of a destination, for `queue why`. */
export interface DestinationStanding {
  destination: string;
  /** Entries that are with delivery. */
  sending: number;
  /** Until when failing connections keep it from being tried, as a time of day; null: they do not. */
  suspendedUntilMs: number | null;
  suspendedSinceMs: number | null;
  suspendedReason: string;
  /** What is used up: places with delivery (or memory for their content), the destination's rate, or a limit of its site. */
  limit: 'places' | 'rate' | 'site' | null;
  /** The site it belongs to; null as long as no delivery thread has found out. */
  site: string | null;
}

export interface ClusterStats {
  /** false: Redis cannot be used, the nodes look for due work in the queue itself. */
  up: boolean;
  sinceMs: number;
  /** Why it was given up last; '' when it never was. */
  lastError: string;
  /** Number of relay processes that share the limits of destinations, as far as known. */
  processes: number;
  /** Number of those that were not heard of lately. */
  silent: number;
  /** Since the start: BullMQ jobs that this process announced, jobs it took, and how often Redis was lost. */
  announced: number;
  taken: number;
  outages: number;
}

/** Limits the rate of messages to destinations. Asked on the hot path, so it answers at once. */
export interface Rates {
  /** @returns how many of `wanted` may go now. */
  take(destination: string, wanted: number): number;
  /** Gives back what `take` granted for messages that did not go. */
  giveBack(destination: string, count: number): void;
}

/** What the limits of a site let through. */
export interface Outlook {
  /** How many may go within a second. */
  messages: number;
  /** Where none may: when, in steady time. */
  atMs: number;
}

/** What the composition root gives a scheduler. */
export interface SchedulerPorts {
  claim(
    destination: string,
    limit: number,
  ): Promise<{ jobs: Job[]; nextDueMs: number | null; short: boolean; asideRows?: number }>;
  deliver(jobs: Job[]): void;
  /** Size of the memory for content: in all, and free now. */
  contentBytes: number;
  freeContentBytes(): number;
  /** The time of day, by which rows are due. */
  now(): number;
  /** Steady time, for pauses and suspensions; default: `now`. */
  steady?(): number;
  /** @param atMs in steady time. */
  setTimer(atMs: number, fire: () => void): { cancel(): void };
  /**
   * Whether a rule of an operator holds the destination: then its mail is not handed over, and a claim brings only rows
   * that are too old to be sent.
   */
  held?(destination: string): boolean;
  /** Absent: the rates of destinations are not limited. */
  rates?: Rates;
  /** How many messages the limits of a site let through soon; absent: as many as there are. */
  outlook?(site: string): Outlook;
}
