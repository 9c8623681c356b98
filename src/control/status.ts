/**
 * How a relay is, from figures that are at hand: what `protorelay status` shows. Those of several processes are put
 * together here, and judged.
 */

import type { OutboxState } from '../mail/outbox-state.ts';
import type { LimitedFile, QueueFile } from '../mail/queue-stats.ts';
import { noStates } from '../mail/queue-stats.ts';
import type { Rates } from '../report/minute-rates.ts';
import { mergeJournals, mergeSchedulerStats } from './merged-queue.ts';
import type { CountedQueue, ProcessStatus, RelayStatus, SchedulerStats } from './target.ts';

/** What the process that has the control socket knows. */
export interface HostFacts {
  pid: number;
  version: string;
  startedAtMs: number;
  listeners: string[];
  /** null: there was none. */
  reload: { atMs: number; needsRestart: string[]; problems: string[] } | null;
}

export interface HostStatus extends RelayStatus, HostFacts {
  /** Of a relay of several; else empty. */
  processes: ProcessStatus[];
}

/** Something that an operator should look at. */
export interface Impairment {
  cause:
    | 'pressure'
    | 'overloaded'
    | 'draining'
    | 'database_away'
    | 'suspensions_unknown'
    | 'shard_down'
    | 'redis_down'
    | 'journal_stuck'
    | 'storage_fault'
    | 'process_down';
  detail: string;
}

export function mergeStatus(parts: readonly RelayStatus[]): RelayStatus {
  const sum = (figure: (part: RelayStatus) => number): number =>
    parts.reduce((total, part) => total + figure(part), 0);
  const rate = (name: keyof Rates): number => sum(({ rates }) => rates[name]);
  const shards = new Map<string, RelayStatus['shards'][number]>();
  for (const shard of parts.flatMap((part) => part.shards))
    if (!shard.up || !shards.has(shard.name)) shards.set(shard.name, shard);
  const counts = mergeCounts(parts.flatMap((part) => part.counts ?? []));
  const scheduler = mergeSchedulerStats(
    parts.map((part) => part.scheduler),
    null,
  );
  const disks = parts.flatMap(({ freeDiskBytes }) => freeDiskBytes ?? []);
  return {
    connectionsIn: sum(({ connectionsIn }) => connectionsIn),
    connectionsOut: sum(({ connectionsOut }) => connectionsOut),
    rates: {
      ms: Math.max(0, ...parts.map(({ rates }) => rates.ms)),
      acceptedMessages: rate('acceptedMessages'),
      accepted: rate('accepted'),
      delivered: rate('delivered'),
      deferred: rate('deferred'),
      bounced: rate('bounced'),
    },
    totals: parts.flatMap(({ totals }) => totals),
    pressure: parts.find(({ pressure }) => pressure !== null)?.pressure ?? null,
    overloaded: parts.some(({ overloaded }) => overloaded),
    freeDiskBytes: disks.length === 0 ? null : Math.min(...disks),
    counts,
    scheduler: shards.size > 0 && counts !== null ? { ...scheduler, ...waitingOf(counts) } : scheduler,
    journal: mergeJournals(parts.map(({ journal }) => journal)),
    shards: [...shards.values()],
    file: mergeFiles(parts.flatMap(({ file }) => file ?? [])),
    storageFaults: [...new Set(parts.flatMap(({ storageFaults }) => storageFaults))],
  };
}

/** Of a queue on servers, from which other nodes take rows, processes can only guess how many wait. */
const waitingOf = ({ rows }: CountedQueue): Pick<SchedulerStats, 'waitingRows'> => ({
  waitingRows: rows.PENDING + rows.RETRY,
});

/** Each process has a file of its own, and one config. */
function mergeFiles(files: readonly LimitedFile[]): LimitedFile | null {
  const [first] = files;
  if (first === undefined) return null;
  const sum = (name: keyof QueueFile): number => files.reduce((total, file) => total + file[name], 0);
  return { bytes: sum('bytes'), freeBytes: sum('freeBytes'), maxMb: first.maxMb };
}

function mergeCounts(parts: readonly CountedQueue[]): CountedQueue | null {
  const [first] = parts;
  if (first === undefined) return null;
  const sum: CountedQueue = {
    countedAtMs: first.countedAtMs,
    rows: noStates(),
    messages: noStates(),
    recipients: noStates(),
    oldestMs: null,
  };
  for (const part of parts) {
    sum.countedAtMs = Math.min(sum.countedAtMs, part.countedAtMs);
    if (part.oldestMs !== null) sum.oldestMs = Math.min(sum.oldestMs ?? part.oldestMs, part.oldestMs);
    for (const state of Object.keys(sum.rows) as OutboxState[]) {
      sum.rows[state] += part.rows[state];
      sum.messages[state] += part.messages[state];
      sum.recipients[state] += part.recipients[state];
    }
  }
  return sum;
}

/** What impairs a relay; nothing: it is healthy. What an operator ordered (delivery.enabled, suspensions) is no impairment. */
export function impairments(status: HostStatus): Impairment[] {
  const found: Impairment[] = [];
  const say = (cause: Impairment['cause'], detail = ''): void => void found.push({ cause, detail });
  if (status.pressure !== null) say('pressure', status.pressure);
  if (status.overloaded) say('overloaded');
  for (const { kind, detail } of status.scheduler.holds ?? [])
    if (kind !== 'delivery_disabled' && kind !== 'suspended') say(kind, detail);
  for (const { name, up, error } of status.shards) if (!up) say('shard_down', `${name}: ${error}`);
  const { cluster } = status.scheduler;
  if (cluster !== undefined && !cluster.up) say('redis_down', cluster.lastError);
  for (const { name, error } of status.journal?.shards ?? [])
    if (error !== null) say('journal_stuck', `${name}: ${error}`);
  for (const fault of status.storageFaults) say('storage_fault', fault);
  for (const { process, state } of status.processes)
    if (state !== 'ready' && state !== 'ended') say('process_down', `${process}: ${state}`);
  return found;
}
