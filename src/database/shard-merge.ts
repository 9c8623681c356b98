/** Puts together what several shards answered. */
import { shardOfQueueId } from '../mail/queue-id.ts';
import type { DestinationBacklog, QueueRow, Selection } from './database.ts';

export const earlier = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.min(a, b);

export const byQueueId = (a: QueueRow, b: QueueRow): number =>
  a.queueId < b.queueId ? -1 : a.queueId > b.queueId ? 1 : a.destination < b.destination ? -1 : 1;

export function merged(parts: DestinationBacklog[][]): DestinationBacklog[] {
  const sums = new Map<string, DestinationBacklog>();
  for (const part of parts)
    for (const { destination, rows, nextDueMs } of part) {
      const sum = sums.get(destination);
      if (sum === undefined || sum.rows === 0) sums.set(destination, { destination, rows, nextDueMs });
      else if (rows > 0) {
        sum.rows += rows;
        sum.nextDueMs = Math.min(sum.nextDueMs, nextDueMs);
      }
    }
  return [...sums.values()];
}

/** The selection for one shard: without the ids of messages that lie in others. */
export function selectionOn(shard: number, selection: Selection): Selection {
  if (selection.ids === undefined) return selection;
  return { ...selection, ids: selection.ids.filter((id) => shardOfQueueId(id) === shard) };
}
