/** Which rows an operator means. */
import type { Job } from './job.ts';
import { SuspensionMatcher, type SuspensionRule } from './suspension.ts';

export type Meant = { queueIds: string[] } | { destination: string } | 'all' | { rules: SuspensionRule[] };

/** With rules: those of which any recipient is held. */
export function meantBy(target: Meant): (job: Job) => boolean {
  if (target === 'all') return () => true;
  if ('destination' in target) return ({ destination }) => destination === target.destination;
  if ('rules' in target) {
    const matcher = new SuspensionMatcher(target.rules);
    return (job) => matcher.heldOf(job) !== null;
  }
  const queueIds = new Set(target.queueIds);
  return ({ queueId }) => queueIds.has(queueId);
}
