/**
 * The journal as the main thread sees it. Tasks are done one after the other, in the order in which they were asked: a
 * read finds everything that was appended before it. If the journal's thread dies, that is our own fault, and the
 * process ends with it.
 */
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import {
  fromFault,
  type JournalAnswer,
  type JournalResults,
  type JournalStart,
  type JournalTask,
} from './tasks.ts';

export interface JournalPool {
  run(task: JournalTask): Promise<JournalAnswer>;
  destroy(): Promise<void>;
}

export function startJournalThread(start: JournalStart): JournalPool {
  const pool = new Piscina({
    filename: fileURLToPath(new URL('./worker.ts', import.meta.url)),
    workerData: start,
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    concurrentTasksPerWorker: 1,
    // The thread sleeps on the task counter instead of in its event loop, which more than halves the latency.
    atomics: 'sync',
    trackUnmanagedFds: false,
    recordTiming: false,
    workerHistogram: false,
  });
  pool.on('error', () => {}); // the thread ended between tasks: the next task fails
  return { run: (task) => pool.run(task), destroy: () => pool.destroy() };
}

export class JournalClient {
  readonly #pool: JournalPool;
  readonly #died: (error: Error) => void;

  constructor(pool: JournalPool, died: (error: Error) => void) {
    this.#pool = pool;
    this.#died = died;
  }

  /** @throws RelayError */
  async run<K extends JournalTask['kind']>(
    task: Extract<JournalTask, { kind: K }>,
  ): Promise<JournalResults[K]> {
    let answer: JournalAnswer;
    try {
      answer = await this.#pool.run(task);
    } catch (error) {
      this.#died(error as Error);
      throw error;
    }
    if (answer.fault !== null) throw fromFault(answer.fault);
    return answer.value as JournalResults[K];
  }

  async close(remove: boolean): Promise<void> {
    try {
      await this.run({ kind: 'close', remove });
    } finally {
      await this.#pool.destroy();
    }
  }
}
