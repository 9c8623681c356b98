/** Entry of a thread of the persistence pool (piscina): one task in, one answer out. */
import { parentPort, workerData } from 'node:worker_threads';
import { SuppressionFilter } from '../feedback/suppression-filter.ts';
import { attachArena, mapSharedMemory } from '../native.ts';
import { QueueThread } from './queue-thread.ts';
import type { Answer, PersistenceStart, Task } from './tasks.ts';

const start = workerData as PersistenceStart;
const thread = new QueueThread({
  ...start,
  arena: attachArena(start.arena, start.spillDir),
  ...(start.suppressionFilter === undefined
    ? {}
    : { suppressed: new SuppressionFilter(start.suppressionFilter, { map: mapSharedMemory }) }),
  say: (note) => parentPort?.postMessage(note),
});

export default function run({ task, shard }: { task: Task; shard: number }): Promise<Answer> {
  return thread.run(task, shard);
}
