/** `queue stats` in the words of docs/words.md, as --json prints it. */

import type { JournalStats } from '../journal/journal.ts';
import type { QueueFile, QueueStats } from '../mail/queue-stats.ts';
import { AGE_MINUTES, addCounts, biggest, noCounts, type WaitingCounts } from '../mail/queue-stats.ts';
import { SuspensionMatcher } from '../mail/suspension.ts';
import type { SuspendedDestination } from '../scheduler/scheduler.ts';
import type { HoldsAll, ProcessStatus, SchedulerStats } from './target.ts';
import { type EntryState, STATES, textOrNull, timeOf, timeOrNull } from './words.ts';

export interface StatsAnswer {
  running: boolean;
  queue: {
    messages: number;
    content_bytes: number;
    oldest_at: string | null;
    entries: Record<EntryState, number>;
    messages_by_state: Record<EntryState, number>;
    /** Those that were delivered are not counted: null. */
    recipients: Record<Exclude<EntryState, 'delivered'>, number> & { delivered: null };
    suspected_poison_entries: number;
    /** Why the counts are not known: then they are all 0. */
    unavailable: string | null;
    /** The biggest first. */
    destinations: DestinationAnswer[];
    /** The others together. */
    other: WaitingAnswer & {
      destinations: number;
      /** Any destination named may lack so many recipients, which are counted here. */
      may_lack_recipients: number;
    };
    total: WaitingAnswer;
    /** null: the queue is on servers. */
    file: FileAnswer | null;
  };
  /** null: the relay does not run. */
  scheduler: SchedulerAnswer | null;
  /** null: there is none. */
  journal: JournalAnswer | null;
  /** Of a relay of several; else empty. */
  processes: ProcessAnswer[];
}

/** Bytes of the file, and those of them that are free, to be used again. */
export interface FileAnswer {
  size_bytes: number;
  free_bytes: number;
}

export const fileAnswer = ({ bytes, freeBytes }: QueueFile): FileAnswer => ({
  size_bytes: bytes,
  free_bytes: freeBytes,
});

/** What waits: pending, sending, deferred or held. */
export interface WaitingAnswer {
  entries: number;
  recipients: number;
  recipients_by_state: Record<'pending' | 'sending' | 'deferred' | 'held', number>;
  /** By the age of the message: up to so many minutes, and beyond the last. */
  recipients_by_age_min: Record<string, number>;
}

export interface DestinationAnswer extends WaitingAnswer {
  destination: string;
  next_attempt_at: string | null;
  /** By failing connections; null: it is not. */
  suspended: { ends_at: string; reason: string | null } | null;
  /** The rule of an operator that holds all its mail; null: there is none. */
  suspended_by: string | null;
}

export interface SchedulerAnswer {
  destinations: number;
  waiting_entries: number;
  sending_entries: number;
  suspended: { destination: string; ends_at: string; reason: string | null }[];
  suspended_destinations: number;
  /** Rules of operators that hold mail. */
  suspension_rules: number;
  /** What keeps all mail in the queue. */
  holds: { kind: HoldsAll['kind']; detail: string | null }[];
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

function queueAnswer(
  queue: QueueStats,
  { suspended, rules }: Required<Pick<SchedulerStats, 'suspended' | 'rules'>>,
  limit: number,
): StatsAnswer['queue'] {
  const { named, other, total } = limited(queue, limit);
  const matcher = new SuspensionMatcher(rules);
  const suspensions = new Map(suspended.map((one) => [one.destination, one]));
  return {
    messages: queue.mails,
    content_bytes: queue.contentBytes,
    oldest_at: timeOrNull(queue.oldestMs),
    entries: byState(queue.rows),
    messages_by_state: byState(queue.messages),
    recipients: { ...byState(queue.recipients), delivered: null },
    suspected_poison_entries: queue.suspectedPoison,
    unavailable: queue.unavailable ?? null,
    destinations: named.map((one) => {
      const suspension = suspensions.get(one.destination);
      return {
        destination: one.destination,
        ...waitingAnswer(one),
        next_attempt_at: timeOrNull(one.nextDueMs),
        suspended: suspension === undefined ? null : suspensionAnswer(suspension),
        suspended_by: matcher.ofDestination(one.destination)?.id ?? null,
      };
    }),
    other: {
      ...waitingAnswer(other),
      destinations: other.destinations,
      may_lack_recipients: other.mayLack,
    },
    total: waitingAnswer(total),
    file: queue.file === undefined ? null : fileAnswer(queue.file),
  };
}

/** The biggest `limit` destinations, the others together, and all. */
export function limited(
  queue: QueueStats,
  limit: number,
): { named: QueueStats['destinations']; other: QueueStats['other']; total: WaitingCounts } {
  const other = { ...queue.other, ...noCounts() };
  addCounts(other, queue.other);
  const named = biggest([...queue.destinations], other, limit);
  const total = noCounts();
  for (const counts of [...named, other]) addCounts(total, counts);
  return { named, other, total };
}

function waitingAnswer({ entries, recipients, states, ages }: WaitingCounts): WaitingAnswer {
  const [pending = 0, sending = 0, deferred = 0, held = 0] = states;
  const columns = [...AGE_MINUTES.map(String), 'older'].map((name, i) => [name, ages[i] ?? 0]);
  return {
    entries,
    recipients,
    recipients_by_state: { pending, sending, deferred, held },
    recipients_by_age_min: Object.fromEntries(columns) as Record<string, number>,
  };
}

const suspensionAnswer = ({
  untilMs,
  reason,
}: SuspendedDestination): { ends_at: string; reason: string | null } => ({
  ends_at: timeOf(untilMs),
  reason: textOrNull(reason),
});

export function byState(rows: QueueStats['rows']): Record<EntryState, number> {
  const words = Object.keys(STATES) as EntryState[];
  return Object.fromEntries(words.map((word) => [word, rows[STATES[word]]])) as Record<EntryState, number>;
}

export const schedulerAnswer = (scheduler: SchedulerStats): SchedulerAnswer => ({
  destinations: scheduler.destinations,
  waiting_entries: scheduler.waitingRows,
  sending_entries: scheduler.inFlight,
  suspended: scheduler.suspended.map((one) => ({ destination: one.destination, ...suspensionAnswer(one) })),
  suspended_destinations: scheduler.suspendedDestinations,
  suspension_rules: scheduler.rules?.length ?? 0,
  holds: (scheduler.holds ?? []).map(({ kind, detail }) => ({ kind, detail: textOrNull(detail) })),
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

export const journalAnswer = (journal: JournalStats): JournalAnswer => ({
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

export const processAnswer = (one: ProcessStatus): ProcessAnswer => ({
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
  /** Destinations that are named at most. */
  limit: number,
): StatsAnswer => ({
  running: scheduler !== null,
  queue: queueAnswer(queue, { suspended: [], rules: [], ...scheduler }, limit),
  scheduler: scheduler === null ? null : schedulerAnswer(scheduler),
  journal: journal === null ? null : journalAnswer(journal),
  processes: processes.map(processAnswer),
});
