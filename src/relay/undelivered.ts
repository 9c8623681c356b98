/** Jobs that delivery gives back unbegun: at a drain, or for an operator. Part of the composition root. */
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';
import type { Database, ReleasedRow } from '../database/database.ts';
import type { DeliveryThreads } from '../delivery/delivery-threads.ts';
import type { Job } from '../mail/job.ts';
import { meantBy, type Selection } from '../mail/selection.ts';
import type { Arena } from '../native.ts';
import type { WithdrawalPorts } from '../persistence/withdrawals.ts';
import type { Leases } from '../scheduler/leases.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { Suspects } from '../scheduler/suspects.ts';

export interface UndeliveredPorts {
  arena: Arena;
  leases: Leases;
  database: Database;
  scheduler: Scheduler;
  suspects: Suspects;
  deliveries: DeliveryThreads;
  log: Log;
}

/**
 * Rows are put off by this while an operator holds or removes them, or they are withdrawn; should that fail, they go
 * out then.
 */
export const TAKEN_BACK_MS = 10_000;
/** A delivery thread that has not answered by then is ending. */
const ANSWER_MS = 1000;

/** The rows of these jobs, in the form in which the database takes them back. */
export const rowsBack = (jobs: readonly Job[], reason = 'hand_off_released'): ReleasedRow[] =>
  jobs.map(({ queueId, destination, fence }) => ({ queueId, destination, fence, reason }));

async function release(
  { arena, leases, database }: UndeliveredPorts,
  jobs: readonly Job[],
  reason: string,
  dueMs: number,
): Promise<void> {
  if (jobs.length === 0) return;
  for (const job of jobs) {
    arena.release(job.content);
    leases.drop(job);
  }
  await database.release(rowsBack(jobs, reason), dueMs);
}

/** Gives the rows of these jobs back; they are due at once. */
export async function releaseUndelivered(ports: UndeliveredPorts, jobs: readonly Job[]): Promise<void> {
  await release(ports, jobs, 'shutdown', Date.now());
  for (const { queueId, destination } of jobs) ports.scheduler.waiting(destination, 1, Date.now(), queueId);
}

/**
 * Takes rows back that delivery has not begun. They are due after TAKEN_BACK_MS, so that the operator's action comes
 * first.
 */
export async function takeBack(ports: UndeliveredPorts, selection: Selection): Promise<number> {
  const { suspects, deliveries } = ports;
  const jobs = [...suspects.take(meantBy(selection)), ...(await deliveries.takeBack(selection))];
  for (const { queueId, destination } of jobs) suspects.over(queueId, destination);
  try {
    await release(ports, jobs, 'hand_off_released', Date.now() + TAKEN_BACK_MS);
  } finally {
    for (const job of jobs) ports.scheduler.returned(job);
  }
  return jobs.length;
}

/**
 * Ports of the group commit for messages whose client was answered 451: their rows are removed, and nothing of them
 * goes to a peer except what a connection has begun by then.
 */
export function withdrawal(ports: () => UndeliveredPorts): Required<WithdrawalPorts> {
  return {
    async withdrawing(queueId) {
      ports().log.debug('message.withdrawing', { queue_id: queueId });
      ports().leases.withdraw(queueId);
      // Rows that cannot be given back now are freed when their leases end: nobody renews these any more.
      await within(
        ANSWER_MS,
        takeBack(ports(), { ids: [queueId] }).catch(() => {}),
      );
    },
    withdrawn(queueId, isGone) {
      if (!isGone) ports().log.debug('message.not_withdrawn', { queue_id: queueId });
      ports().leases.withdrawn(queueId);
    },
  };
}
