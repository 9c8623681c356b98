/**
 * Puts together what the queue answers in bounded slices, so that the writing thread does other work between them. Runs
 * on the main thread as well as on persistence threads.
 */
import { steadyMs } from '../base/steady.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import { type StatsSlice, StatsSum } from '../mail/queue-stats.ts';
import type { Band } from './bands.ts';
import type {
  OperateAction,
  OperateBounds,
  OperatePart,
  OperateResult,
  QueueFilter,
  RemovedEntry,
  RowChange,
} from './database.ts';
import type { FailedLimits, FailedMark, FailedSlice } from './kept-failed.ts';
import type { Removals } from './removals.ts';
import { isWhole, type ListSlice, type SelectedRow, type SelectedRows } from './select-rows.ts';

export interface OperateSlice {
  rows: number;
  recipients: number;
  /** Messages of rows that are being sent. */
  sending: string[];
  /** When messages were named: those of which rows were changed. */
  queueIds: string[];
  changes: RowChange[];
  removed: RemovedEntry[];
  /** Ask again from here; null when done. */
  next: string | null;
  /** Where in the band after `next`; null: at its beginning. */
  within: Band | null;
}

/** The result of a slice that changed these rows. */
export function operatedSlice(
  action: OperateAction,
  { rows, next, within }: SelectedRows,
  isNamed: boolean,
  removed: Removals,
  changes: ReadonlyMap<string, number> = changesOf(action, rows),
): OperateSlice {
  const changed = rows.filter(({ state }) => state !== 'SENDING');
  let recipients = 0;
  for (const { waiting, some } of changed)
    if (typeof action === 'object') recipients += some?.length ?? waiting;
    else if (action !== 'delete') recipients += waiting;
  for (const { recipients: addresses } of removed.entries()) recipients += addresses.length;
  return {
    rows: changed.length,
    recipients,
    sending: rows.filter(({ state }) => state === 'SENDING').map(({ id }) => id),
    queueIds: isNamed ? [...new Set(changed.map(({ id }) => id))] : [],
    changes: [...changes].map(([destination, more]) => ({ destination, rows: more })),
    removed: removed.entries(),
    next,
    within,
  };
}

/** By how many the rows that wait have grown at each destination; where rows get another one, that has to be said. */
function changesOf(action: OperateAction, rows: readonly SelectedRow[]): Map<string, number> {
  const changes = new Map<string, number>();
  for (const row of rows) {
    const { destination, state } = row;
    if (state === 'SENDING') continue;
    const waits = state === 'PENDING' || state === 'RETRY';
    const leaves = action === 'hold' || (action === 'delete' && isWhole(row));
    const more = action === 'release' ? 1 : leaves && waits ? -1 : 0;
    changes.set(destination, (changes.get(destination) ?? 0) + more);
  }
  return changes;
}

/** Asks for slices until the page is full. */
export async function listBySlices<Row>(
  filter: QueueFilter,
  slice: (part: QueueFilter) => Promise<ListSlice<Row>>,
): Promise<Row[]> {
  const rows: Row[] = [];
  let part = filter;
  for (;;) {
    const { rows: more, next } = await slice({ ...part, limit: filter.limit - rows.length });
    for (const row of more) rows.push(row);
    if (next === null || rows.length >= filter.limit) return rows;
    part = { ...part, afterQueueId: next };
  }
}

export async function statsBySlices(slice: (after: string) => Promise<StatsSlice>): Promise<QueueStats> {
  const sum = new StatsSum();
  for (let after: string | null = ''; after !== null; ) {
    const part = await slice(after);
    sum.addSlice(part);
    after = part.next;
  }
  return sum.stats();
}

export async function operateBySlices(
  slice: (after: string, within: Band | null) => Promise<OperateSlice>,
  done: (part: OperatePart) => void = () => {},
  { after: from, forMs }: OperateBounds = { after: '', forMs: Number.POSITIVE_INFINITY },
): Promise<OperateResult> {
  const endMs = steadyMs() + forMs;
  const changes = new Map<string, number>();
  const sum = { rows: 0, recipients: 0, sending: 0 };
  const sent: string[] = [];
  const queueIds: string[] = [];
  let next: string | null = from;
  for (let asked: Promise<OperateSlice> | null = slice(from, null); asked !== null; ) {
    const part: OperateSlice = await asked;
    next = part.next;
    // Only whole bands are told: who asks goes on after a message.
    const goesOn = next !== null && (part.within !== null || steadyMs() < endMs);
    // The next slice is under way while it is told what this one did.
    asked = goesOn ? slice(next as string, part.within) : null;
    asked?.catch(() => {}); // awaited after this
    sum.rows += part.rows;
    sum.recipients += part.recipients;
    sum.sending += part.sending.length;
    for (const queueId of part.sending) sent.push(queueId);
    for (const queueId of part.queueIds) queueIds.push(queueId);
    for (const change of part.changes)
      changes.set(change.destination, (changes.get(change.destination) ?? 0) + change.rows);
    if (part.rows > 0) done({ changes: part.changes, removed: part.removed });
  }
  return {
    ...sum,
    sendingIds: [...new Set(sent)],
    queueIds,
    changes: [...changes].map(([destination, more]) => ({ destination, rows: more })),
    next,
  };
}

/** Walks from the newest failed message to the first that has no room; null: all have. */
export async function failedCut(
  limits: FailedLimits,
  slice: (left: FailedLimits, before: FailedMark | null) => Promise<FailedSlice>,
): Promise<FailedMark | null> {
  let part: FailedSlice = { left: limits, cut: null, next: null };
  do part = await slice(part.left, part.next);
  while (part.next !== null);
  return part.cut;
}
