/** Pools of threads that compute hashes, ask servers, and wait for PAM. Each is started by its first task. */
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { AuthTask, AuthTaskResults } from './tasks.ts';

/** A thread without work ends after so long. */
const THREAD_IDLE_MS = 60_000;
/** Each thread has a connection of its own to the server that has the users. */
const SERVER_THREADS = 2;
/** PAM modules sleep and ask others over the network: their threads mostly wait. */
const PAM_THREADS = 4;

/** Tasks that wait for a thread. Whose turn it is to be answered (turns.ts) keeps them far below that. */
const MAX_QUEUE = 1024;

export class AuthPool {
  readonly #threads: number;
  #hashing: Piscina | null = null;
  #waiting: Piscina | null = null;
  /** Apart from hashes, so that a server that hangs does not hold up users of other backends. */
  #asking: Piscina | null = null;

  constructor(threads: number) {
    this.#threads = threads;
  }

  /** @throws Error when too many tasks wait, or the signal ended the wait. */
  run<Kind extends AuthTask['kind']>(
    task: Extract<AuthTask, { kind: Kind }>,
    signal: AbortSignal,
  ): Promise<AuthTaskResults[Kind]> {
    const options = { signal };
    const any: AuthTask = task;
    if (any.kind === 'shared-secret' || ('place' in any && 'server' in any.place)) {
      this.#asking ??= this.#start(SERVER_THREADS);
      return this.#asking.run(task, options);
    }
    if (any.kind !== 'pam') {
      this.#hashing ??= this.#start(this.#threads);
      return this.#hashing.run(task, options);
    }
    this.#waiting ??= this.#start(PAM_THREADS);
    // Piscina would end the thread of an aborted task, and PAM cannot be stopped: only the caller gives up.
    return abandonable(this.#waiting.run(task), signal);
  }

  #start(threads: number): Piscina {
    const pool = new Piscina({
      filename: fileURLToPath(new URL('./worker.ts', import.meta.url)),
      minThreads: 0,
      maxThreads: threads,
      maxQueue: MAX_QUEUE,
      idleTimeout: THREAD_IDLE_MS,
      concurrentTasksPerWorker: 1,
      recordTiming: false,
      workerHistogram: false,
    });
    pool.on('error', () => {}); // the thread ended between tasks: the next task gets a new one, and says if that fails
    return pool;
  }

  async close(): Promise<void> {
    await Promise.all([this.#hashing?.destroy(), this.#asking?.destroy(), this.#waiting?.destroy()]);
    this.#hashing = this.#asking = this.#waiting = null;
  }
}

function abandonable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => {}); // it may fail when nobody waits any more
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
