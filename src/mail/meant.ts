/** Which rows an operator means. */
import type { Job } from './job.ts';

export function meantBy(
  target: { queueIds: string[] } | { destination: string } | 'all',
): (row: Pick<Job, 'queueId' | 'destination'>) => boolean {
  if (target === 'all') return () => true;
  if ('destination' in target) return ({ destination }) => destination === target.destination;
  const queueIds = new Set(target.queueIds);
  return ({ queueId }) => queueIds.has(queueId);
}
