/** Jobs that delivery gives back unbegun: at a drain, or for an operator. Part of the composition root. */
import type { Database, OperateTarget } from './database/database.ts';
import type { DeliveryThreads } from './delivery/delivery-threads.ts';
import type { Job } from './mail/job.ts';
import { meantBy } from './mail/meant.ts';
import type { Arena } from './native.ts';
import type { Leases } from './scheduler/leases.ts';
import type { Scheduler } from './scheduler/scheduler.ts';
import type { Suspects } from './scheduler/suspects.ts';

export interface UndeliveredPorts {
  arena: Arena;
  leases: Leases;
  database: Database;
  scheduler: Scheduler;
}

/** Rows an operator holds or removes wait so long before they would go out again, should that fail. */
const TAKEN_BACK_MS = 10_000;

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
  const rows = jobs.map(({ queueId, destination, fence }) => ({ queueId, destination, fence, reason }));
  await database.release(rows, dueMs);
}

/** They are due at once. */
export async function releaseUndelivered(ports: UndeliveredPorts, jobs: readonly Job[]): Promise<void> {
  await release(ports, jobs, 'shutdown', Date.now());
  for (const { queueId, destination } of jobs) ports.scheduler.waiting(destination, 1, Date.now(), queueId);
}

/** Rows with delivery that did not begin wait again; the pause is for the operator's action on them. */
export async function takeBack(
  ports: UndeliveredPorts,
  suspects: Suspects,
  deliveries: DeliveryThreads,
  target: OperateTarget,
): Promise<number> {
  const jobs = [...suspects.take(meantBy(target)), ...(await deliveries.takeBack(target))];
  for (const { queueId, destination } of jobs) suspects.over(queueId, destination);
  try {
    await release(ports, jobs, 'hand-off-released', Date.now() + TAKEN_BACK_MS);
  } finally {
    for (const job of jobs) ports.scheduler.returned(job);
  }
  return jobs.length;
}
