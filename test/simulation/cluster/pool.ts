/** Stands in for the persistence pool: its threads are parts of the simulated process, and can die. */

import type { TaskPool } from '../../../src/persistence/database-client.ts';
import { QueueThread } from '../../../src/persistence/queue-thread.ts';
import type { Answer, PersistenceStart, Task } from '../../../src/persistence/tasks.ts';
import { Actor, actor } from './clock.ts';
import { processOf } from './process.ts';

export * from '../../../src/persistence/database-client.ts';

/** One thread, which tasks share: they wait for replies, not for the processor. */
class SimulatedPool implements TaskPool {
  readonly #start: PersistenceStart;
  readonly #process: Actor;
  #thread: Actor;
  #queue: QueueThread;
  #running = new Set<(error: Error) => void>();

  constructor(start: PersistenceStart) {
    this.#start = start;
    this.#process = actor();
    this.#thread = new Actor(this.#process.clock, this.#process);
    this.#queue = this.#open();
  }

  #open(): QueueThread {
    const { config, spillDir, owner, connections } = this.#start;
    const { arena } = processOf(this.#process);
    return new QueueThread({
      config,
      arena,
      spillDir,
      ...(owner === undefined ? {} : { owner }),
      ...(connections === undefined ? {} : { connections }),
    });
  }

  run(task: Task, shard: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const { arena } = processOf(this.#process);
      this.#running.add(reject);
      const queue = this.#queue;
      this.#thread.enter(() => {
        queue.run(structuredClone(task), shard).then((answer) => {
          if (queue !== this.#queue) return; // it died meanwhile, and nobody hears it
          this.#running.delete(reject);
          this.#process.reach(() => resolve(answer));
        }, reject);
      });
      void arena;
    });
  }

  /** The thread dies: nobody learns what became of its tasks. */
  die(): void {
    this.#thread.kill();
    processOf(this.#process).world.network.ended(this.#thread);
    this.#thread = new Actor(this.#process.clock, this.#process);
    this.#queue = this.#open();
    const running = [...this.#running];
    this.#running = new Set();
    this.#process.reach(() => {
      for (const reject of running) reject(new Error('the thread ended'));
    });
  }

  async destroy(): Promise<void> {
    this.#thread.kill();
  }
}

export function startPool(start: PersistenceStart): TaskPool {
  const pool = new SimulatedPool(start);
  processOf(actor()).threadDies = () => pool.die();
  return pool;
}
