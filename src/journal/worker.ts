/** Entry of the journal's thread (piscina): one task in, one answer out. */
import { workerData } from 'node:worker_threads';
import { alignedBuffer, attachArena } from '../native.ts';
import { nodeDisk } from './disk.ts';
import { JournalStore } from './journal-store.ts';
import { runTask } from './run-task.ts';
import type { JournalAnswer, JournalStart, JournalTask } from './tasks.ts';

const { arena, spillDir, ...start } = workerData as JournalStart;
const store = new JournalStore({
  ...start,
  arena: attachArena(arena, spillDir),
  disk: nodeDisk,
  allocate: alignedBuffer,
});

export default function run(task: JournalTask): JournalAnswer {
  return runTask(store, task);
}
