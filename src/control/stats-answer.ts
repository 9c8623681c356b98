/** `queue stats` in the words of docs/words.md, as --json prints it. */
import type { QueueStats } from '../database/database.ts';
import type { JournalStats } from '../journal/journal.ts';
import type { ProcessStatus, SchedulerStats } from './protocol.ts';
import { type EntryState, STATES, timeOf, timeOrNull } from './words.ts';

export interface StatsAnswer {
  running: boolean;
  queue: {
    messages: number;
    content_bytes: number;
    oldest_at: string | null;
    entries: Record<EntryState, number>;
    suspected_poison_entries: number;
    /** Why the counts are not known: then they are all 0. */
    unavailable: string | null;
    destinations: { destination: string; entries: number; next_attempt_at: string }[];
  };
  /** null: the relay does not run. */
  scheduler: SchedulerAnswer | null;
  /** null: there is none. */
  journal: JournalAnswer | null;
  /** Of a relay of several; else empty. */
  processes: ProcessAnswer[];
}

export interface SchedulerAnswer {
  destinations: number;
  waiting_entries: number;
  sending_entries: number;
  suspended: { destination: string; ends_at: string }[];
  /** What errors of the relay itself ended. */
  faults: { sessions: number; deliveries: number; others: number } | null;
  /** What the nodes share over Redis. */
  cluster: {
    up: boolean;
    changed_at: string;
    last_error: string | null;
    processes: number;
    silent_processes: number;
    announced_jobs: number;
    taken_jobs: number;
    outages: number;
  } | null;
}

export interface JournalAnswer {
  size_bytes: number;
  max_bytes: number;
  waiting_messages: number;
  oldest_at: string | null;
  shards: {
    shard: number;
    name: string;
    waiting_messages: number;
    /** Those that the shard refuses. */
    refused_messages: number;
    oldest_at: string | null;
    error: string | null;
  }[];
}

export interface ProcessAnswer {
  process: number;
  pid: number | null;
  state: ProcessStatus['state'];
  /** false: it only empties the queue of a process that the config no longer has. */
  accepts: boolean;
  restarts: number;
  ready_at: string | null;
  connections: number;
  memory_mb: number;
}

const queueAnswer = (queue: QueueStats): StatsAnswer['queue'] => ({
  messages: queue.mails,
  content_bytes: queue.contentBytes,
  oldest_at: timeOrNull(queue.oldestMs),
  entries: entriesByState(queue.rows),
  suspected_poison_entries: queue.suspectedPoison,
  unavailable: queue.unavailable ?? null,
  destinations: queue.destinations.map(({ destination, rows, nextDueMs }) => ({
    destination,
    entries: rows,
    next_attempt_at: timeOf(nextDueMs),
  })),
});

function entriesByState(rows: QueueStats['rows']): Record<EntryState, number> {
  const words = Object.keys(STATES) as EntryState[];
  return Object.fromEntries(words.map((word) => [word, rows[STATES[word]]])) as Record<EntryState, number>;
}

const schedulerAnswer = (scheduler: SchedulerStats): SchedulerAnswer => ({
  destinations: scheduler.destinations,
  waiting_entries: scheduler.waitingRows,
  sending_entries: scheduler.inFlight,
  suspended: scheduler.suspended.map(({ destination, untilMs }) => ({
    destination,
    ends_at: timeOf(untilMs),
  })),
  faults: scheduler.faults ?? null,
  cluster: scheduler.cluster === undefined ? null : clusterAnswer(scheduler.cluster),
});

const clusterAnswer = (
  cluster: NonNullable<SchedulerStats['cluster']>,
): NonNullable<SchedulerAnswer['cluster']> => ({
  up: cluster.up,
  changed_at: timeOf(cluster.sinceMs),
  last_error: cluster.lastError === '' ? null : cluster.lastError,
  processes: cluster.processes,
  silent_processes: cluster.silent,
  announced_jobs: cluster.announced,
  taken_jobs: cluster.taken,
  outages: cluster.outages,
});

const journalAnswer = (journal: JournalStats): JournalAnswer => ({
  size_bytes: journal.bytes,
  max_bytes: journal.maxBytes,
  waiting_messages: journal.waiting,
  oldest_at: timeOrNull(journal.oldestMs),
  shards: journal.shards.map(({ shard, name, waiting, aside, oldestMs, error }) => ({
    shard,
    name,
    waiting_messages: waiting,
    refused_messages: aside,
    oldest_at: timeOrNull(oldestMs),
    error,
  })),
});

const processAnswer = (one: ProcessStatus): ProcessAnswer => ({
  process: one.process,
  pid: one.pid,
  state: one.state,
  accepts: one.accepts,
  restarts: one.restarts,
  ready_at: timeOrNull(one.readySinceMs),
  connections: one.connections,
  memory_mb: one.rssMb,
});

export const statsAnswer = (
  queue: QueueStats,
  scheduler: SchedulerStats | null,
  journal: JournalStats | null,
  processes: readonly ProcessStatus[],
): StatsAnswer => ({
  running: scheduler !== null,
  queue: queueAnswer(queue),
  scheduler: scheduler === null ? null : schedulerAnswer(scheduler),
  journal: journal === null ? null : journalAnswer(journal),
  processes: processes.map(processAnswer),
});
