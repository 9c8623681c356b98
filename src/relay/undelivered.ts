/** Jobs that delivery gives back unbegun: at a drain, or for an operator. Part of the composition root. */
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';
import type { Database, ReleasedRow } from '../database/database.ts';
import type { DeliveryThreads } from '../delivery/delivery-threads.ts';
import type { Job } from '../mail/job.ts';
import type { Selection } from '../mail/selection.ts';
import { judgeOf, type TakenBack } from '../mail/suspension.ts';
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
  /** Recipients that a rule holds apart from the job are of its entry again. */
  forget(job: Job): void;
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
  { arena, leases, database, forget }: UndeliveredPorts,
  jobs: readonly Job[],
  reason: string,
  dueMs: number,
): Promise<void> {
  if (jobs.length === 0) return;
  for (const job of jobs) {
    arena.release(job.content);
    leases.drop(job);
    forget(job);
  }
  await database.release(rowsBack(jobs, reason), dueMs);
}

/** Gives the rows of jobs back that delivery does not have. */
export async function giveBack(
  ports: UndeliveredPorts,
  jobs: readonly Job[],
  reason: string,
  dueMs: number,
): Promise<void> {
  try {
    await release(ports, jobs, reason, dueMs);
  } finally {
    for (const job of jobs) ports.scheduler.returned(job);
  }
}

/** Gives the rows of these jobs back; they are due at once. */
export async function releaseUndelivered(ports: UndeliveredPorts, jobs: readonly Job[]): Promise<void> {
  await release(ports, jobs, 'shutdown', Date.now());
  for (const { queueId, destination } of jobs) ports.scheduler.waiting(destination, 1, Date.now(), queueId);
}

/** Takes out of delivery what it has not begun. */
export async function takeOut({ suspects, deliveries }: UndeliveredPorts, meant: TakenBack): Promise<Job[]> {
  const jobs = [...suspects.take(judgeOf(meant)), ...(await deliveries.takeBack(meant))];
  for (const { queueId, destination } of jobs) suspects.over(queueId, destination);
  return jobs;
}

/**
 * Takes rows back that delivery has not begun. They are due after TAKEN_BACK_MS, so that the operator's action comes
 * first.
 */
export async function takeBack(ports: UndeliveredPorts, selection: Selection): Promise<number> {
  const jobs = await takeOut(ports, { selection });
  await giveBack(ports, jobs, 'hand_off_released', Date.now() + TAKEN_BACK_MS);
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
