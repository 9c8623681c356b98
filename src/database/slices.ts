/**
 * Puts together what the queue answers in bounded slices. Runs on either side: between the slices other work of the
 * writing thread goes on.
 */
import type {
  DestinationBacklog,
  OperatePart,
  OperateResult,
  OutboxState,
  QueueFilter,
  QueueRow,
  QueueStats,
  RemovedMail,
} from './database.ts';

export interface ListSlice {
  rows: QueueRow[];
  /** Ask again with this as afterQueueId; null at the end of the queue. */
  next: string | null;
}

/** Sums over the mails up to `next`. */
export interface StatsSlice {
  rows: Record<OutboxState, number>;
  mails: number;
  contentBytes: number;
  oldestMs: number | null;
  suspectedPoison: number;
  next: string | null;
}

export interface OperateSlice {
  rows: number;
  destinations: string[];
  removed: RemovedMail[];
  /** Ask again from here; null when done. */
  next: { queueId: string; destination: string } | null;
}

export const noRows = (): Record<OutboxState, number> => ({
  PENDING: 0,
  SENDING: 0,
  SENT: 0,
  RETRY: 0,
  DEAD: 0,
  HELD: 0,
});

/** Asks for slices until the page is full. */
export async function listBySlices(
  filter: QueueFilter,
  slice: (part: QueueFilter) => Promise<ListSlice>,
): Promise<QueueRow[]> {
  const rows: QueueRow[] = [];
  let part = filter;
  for (;;) {
    const { rows: more, next } = await slice({ ...part, limit: filter.limit - rows.length });
    rows.push(...more);
    if (next === null || rows.length >= filter.limit) return rows;
    part = { ...part, afterQueueId: next };
  }
}

export async function statsBySlices(
  slice: (after: string) => Promise<StatsSlice>,
  backlog: () => Promise<DestinationBacklog[]>,
): Promise<QueueStats> {
  const sum = { rows: noRows(), mails: 0, contentBytes: 0, oldestMs: null, suspectedPoison: 0 };
  for (let after: string | null = ''; after !== null; ) {
    const part = await slice(after);
    addStats(sum, part);
    after = part.next;
  }
  return { ...sum, destinations: await backlog() };
}

export async function operateBySlices(
  slice: (after: OperateSlice['next']) => Promise<OperateSlice>,
  backlogOf: (destinations: string[]) => Promise<DestinationBacklog[]>,
  done: (part: OperatePart) => void = () => {},
): Promise<OperateResult> {
  const destinations = new Set<string>();
  let rows = 0;
  for (let after: OperateSlice['next'] = null; ; ) {
    const part = await slice(after);
    rows += part.rows;
    for (const destination of part.destinations) destinations.add(destination);
    if (part.rows > 0) done(part);
    after = part.next;
    if (after === null) break;
  }
  return { rows, destinations: await backlogOf([...destinations]) };
}

function addStats(sum: Omit<QueueStats, 'destinations'>, slice: StatsSlice): void {
  for (const state of Object.keys(slice.rows) as OutboxState[]) sum.rows[state] += slice.rows[state];
  sum.mails += slice.mails;
  sum.contentBytes += slice.contentBytes;
  sum.suspectedPoison += slice.suspectedPoison;
  if (slice.oldestMs !== null) sum.oldestMs = Math.min(sum.oldestMs ?? slice.oldestMs, slice.oldestMs);
}
