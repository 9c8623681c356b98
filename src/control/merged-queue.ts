/**
 * The queues of several relay processes as one: rows in order of queue id, pages as complete as those of one queue, counts
 * added up. A message lies in exactly one of the queues.
 */

import type { MailDetail, QueueFilter, QueueRow, Selection } from '../database/database.ts';
import type { JournalStats } from '../journal/journal.ts';
import { type Counted, type CountKey, mergeCounts } from '../mail/queue-counts.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import { mergeStats } from '../mail/queue-stats.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { ClusterStats, SuspendedDestination } from '../scheduler/scheduler.ts';
import type { HoldsAll, QueueReader, SchedulerStats } from './target.ts';

export class MergedQueue implements QueueReader {
  readonly #readers: () => readonly QueueReader[];

  /** @param readers asked at every call: processes come and go. */
  constructor(readers: () => readonly QueueReader[]) {
    this.#readers = readers;
  }

  async list(filter: QueueFilter): Promise<QueueRow[]> {
    const pages = await Promise.all(this.#readers().map((reader) => reader.list(filter)));
    return mergePages(pages, filter.limit);
  }

  async count(selection: Selection, by: CountKey | null): Promise<Counted> {
    return mergeCounts(await Promise.all(this.#readers().map((reader) => reader.count(selection, by))));
  }

  async show(queueId: string): Promise<MailDetail | null> {
    return this.#first((reader) => reader.show(queueId));
  }

  async content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    return this.#first((reader) => reader.content(queueId, offset, maxBytes));
  }

  async stats(): Promise<QueueStats> {
    return mergeStats(await Promise.all(this.#readers().map((reader) => reader.stats())));
  }

  async #first<T>(ask: (reader: QueueReader) => Promise<T | null>): Promise<T | null> {
    const answers = await Promise.all(this.#readers().map(ask));
    return answers.find((answer) => answer !== null) ?? null;
  }
}

/**
 * A page of all queues from one page of each. Every page is complete up to its last row, so what is cut off here comes
 * with the next page. The rows of one message are never parted.
 */
export function mergePages(pages: readonly QueueRow[][], limit: number): QueueRow[] {
  const rows = pages.flat();
  if (pages.length > 1) rows.sort((a, b) => (a.queueId < b.queueId ? -1 : a.queueId > b.queueId ? 1 : 0));
  let end = Math.min(limit, rows.length);
  while (end > 0 && end < rows.length && rows[end]?.queueId === rows[end - 1]?.queueId) end++;
  return rows.slice(0, end);
}

/** null when no process has a journal. A shard to which several processes cannot drain is listed once. */
export function mergeJournals(parts: readonly (JournalStats | null)[]): JournalStats | null {
  const journals = parts.filter((part) => part !== null);
  if (journals.length === 0) return null;
  const sum: JournalStats = { bytes: 0, maxBytes: 0, waiting: 0, oldestMs: null, shards: [] };
  const shards = new Map<number, JournalStats['shards'][number]>();
  for (const part of journals) {
    sum.bytes += part.bytes;
    sum.maxBytes += part.maxBytes;
    sum.waiting += part.waiting;
    sum.oldestMs = earliest(sum.oldestMs, part.oldestMs);
    for (const shard of part.shards) {
      const known = shards.get(shard.shard);
      if (known === undefined) shards.set(shard.shard, { ...shard });
      else {
        known.waiting += shard.waiting;
        known.aside += shard.aside;
        known.oldestMs = earliest(known.oldestMs, shard.oldestMs);
        known.error ??= shard.error;
      }
    }
  }
  sum.shards = [...shards.values()];
  return sum;
}

const earliest = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.min(a, b);

/**
 * How much waits is taken from the queue, since figures of processes cannot be added up: several may have rows of one
 * destination, and with a queue on servers each knows all rows.
 * @param queue null, or `unavailable` in it: the process that knows of most counts.
 */
export function mergeSchedulerStats(
  parts: readonly SchedulerStats[],
  queue: QueueStats | null,
): SchedulerStats {
  const suspended = new Map<string, SuspendedDestination>();
  for (const one of parts.flatMap((part) => part.suspended))
    if (one.untilMs >= (suspended.get(one.destination)?.untilMs ?? 0)) suspended.set(one.destination, one);
  const sum = (figure: (part: SchedulerStats) => number): number =>
    parts.reduce((total, part) => total + figure(part), 0);
  const most = (figure: (part: SchedulerStats) => number): number => Math.max(0, ...parts.map(figure));
  const known = queue !== null && queue.unavailable === undefined ? queue : null;
  return {
    inFlight: sum((part) => part.inFlight),
    waitingRows: known ? known.rows.PENDING + known.rows.RETRY : most(({ waitingRows }) => waitingRows),
    destinations: known
      ? known.destinations.length + known.other.destinations
      : most(({ destinations }) => destinations),
    ...mergeHolds(parts.map(({ holds }) => holds ?? [])),
    ...mergeRules(parts.map(({ rules }) => rules ?? [])),
    suspended: [...suspended.values()],
    suspendedDestinations: Math.max(
      suspended.size,
      most((part) => part.suspendedDestinations),
    ),
    ...(parts.some(({ faults }) => faults !== undefined)
      ? {
          faults: {
            sessions: sum(({ faults }) => faults?.sessions ?? 0),
            deliveries: sum(({ faults }) => faults?.deliveries ?? 0),
            others: sum(({ faults }) => faults?.others ?? 0),
          },
        }
      : {}),
    ...mergeClusterStats(parts.flatMap(({ cluster }) => cluster ?? [])),
  };
}

/** What keeps the mail of every process, or of some. */
function mergeHolds(parts: readonly HoldsAll[][]): { holds?: HoldsAll[] } {
  const kinds = new Map(parts.flat().map((one) => [one.kind, one]));
  return kinds.size === 0 ? {} : { holds: [...kinds.values()] };
}

/** Every process knows them all, sooner or later. */
function mergeRules(parts: readonly SuspensionRule[][]): { rules?: SuspensionRule[] } {
  const rules = new Map(parts.flat().map((rule) => [rule.id, rule]));
  return rules.size === 0 ? {} : { rules: [...rules.values()] };
}

/** Processes of one host use the same Redis: when one of them cannot use it, it counts as down. */
function mergeClusterStats(parts: readonly ClusterStats[]): { cluster?: ClusterStats } {
  const [first] = parts;
  if (first === undefined) return {};
  const worst = parts.find(({ up }) => !up) ?? first;
  const sum = (figure: (part: ClusterStats) => number): number =>
    parts.reduce((total, part) => total + figure(part), 0);
  return {
    cluster: {
      ...worst,
      processes: Math.max(...parts.map(({ processes }) => processes)),
      announced: sum(({ announced }) => announced),
      taken: sum(({ taken }) => taken),
      outages: sum(({ outages }) => outages),
    },
  };
}
