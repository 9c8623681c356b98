/** Does one task on the journal. */
import type { JournalStore } from './journal-store.ts';
import { type JournalAnswer, type JournalResults, type JournalTask, toFault } from './tasks.ts';

/** Does the task. Never throws: faults are part of the answer. */
export function runTask(store: JournalStore, task: JournalTask): JournalAnswer {
  try {
    return { value: dispatch(store, task), fault: null };
  } catch (error) {
    return { value: null, fault: toFault(error) };
  }
}

function dispatch(store: JournalStore, task: JournalTask): JournalResults[JournalTask['kind']] {
  switch (task.kind) {
    case 'open':
      return store.open();
    case 'append':
      return store.append(task);
    case 'read':
      return store.read(task);
    case 'begin':
      return store.begin(task.shard, task.mark);
    case 'passed':
      return store.passed(task.marks, task.save);
    case 'compact':
      return store.compact();
    case 'remember': {
      const { kind: _, ...change } = task;
      store.remember(change);
      return null;
    }
    case 'close':
      store.close(task.remove);
      return null;
    default:
      return task satisfies never;
  }
}
