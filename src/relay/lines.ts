/** Lines of the log about what comes back from delivery. Part of the composition root. */
import type { Log } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { AttemptResult } from '../mail/job.ts';

export function logRejected(log: Log, { queueId, destination, fence }: AttemptResult): void {
  const advice = 'another lease of the entry is newer; its result counts';
  log.warn('settlement.rejected', { queue_id: queueId, destination, fence, advice });
}

/** @param untilMs when the suspension ends, in steady time. */
export function logSuspended(log: Log, destination: string, untilMs: number, reason: string): void {
  const untilAt = new Date(timeOfDayMs(untilMs)).toISOString();
  const event = untilMs > steadyMs() ? 'destination.suspended' : 'destination.resumed';
  log.info(event, { destination, ends_at: untilAt, reason });
}

/** Our own fault: what the thread had open is unknown, so the process ends and recovery sorts it out. */
export function threadFailed(error: Error): never {
  throw error;
}
