/** Puts together what several shards answered. */

import { RelayError } from '../base/errors.ts';
import { nextOf } from '../base/part-cursor.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import type { DestinationBacklog, OperateResult, Selection } from './database.ts';

export const earlier = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.min(a, b);

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

/** Messages that are named need no shard but their own, should others be down. */
export const concerns = (shard: number, { ids }: Selection): boolean =>
  ids?.some((id) => shardOfQueueId(id) === shard) ?? true;

export function mergedOperation(parts: readonly (OperateResult & { shard: number })[]): OperateResult {
  return {
    rows: parts.reduce((sum, { rows }) => sum + rows, 0),
    recipients: parts.reduce((sum, { recipients }) => sum + recipients, 0),
    sending: parts.reduce((sum, { sending }) => sum + sending, 0),
    sendingIds: parts.flatMap(({ sendingIds }) => sendingIds),
    queueIds: parts.flatMap(({ queueIds }) => queueIds),
    changes: parts.flatMap(({ changes }) => changes),
    next: nextOf(parts.map(({ shard, next }) => [shard, next])),
  };
}

/**
 * The answers of those that gave one. @throws the last error when none did.
 * @param strict only shards that are down may be left out, which `missing` names; any other error is thrown.
 */
export function answered<T>(answers: readonly PromiseSettledResult<T>[], strict: boolean): T[] {
  const values = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  if (values.length === 0 && answers.length > 0) throw (answers.at(-1) as PromiseRejectedResult).reason;
  const isOther = (reason: unknown): boolean =>
    !(reason instanceof RelayError) || reason.code !== 'database_unavailable';
  const other = answers.find((answer) => answer.status === 'rejected' && isOther(answer.reason));
  if (strict && other !== undefined) throw (other as PromiseRejectedResult).reason;
  return values;
}
