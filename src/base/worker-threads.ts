/**
 * Worker threads of one kind, seen from the main thread: starts them; gathers what is for each of them, and sends it in one
 * postMessage per thread and loop turn; drains and ends them. A thread that dies is reported, not started again. A thread
 * posts 'ready' when it is, and answers a drain with 'drained'.
 */
import { Worker } from 'node:worker_threads';

export interface WorkerThreadsOptions<Item, To, From> {
  /** For thread names and messages, such as 'session'. */
  name: string;
  entry: URL;
  /** Makes one message of what was gathered for a thread in one loop turn. */
  batch(items: Item[]): To;
  message(thread: number, message: From): void;
  /** A thread died. That is our own fault; the process must not go on. */
  failed(error: Error): void;
}

type Drained<From> = Extract<From, { type: 'drained' }>;

export class WorkerThreads<Item, To, From extends { type: string }> {
  readonly #options: WorkerThreadsOptions<Item, To, From>;
  readonly #workers: Worker[] = [];
  readonly #gathered: Item[][] = [];
  #flushing = false;
  #drains: ((answer: Drained<From> | null) => void)[] = [];
  #stopping = false;

  constructor(options: WorkerThreadsOptions<Item, To, From>) {
    this.#options = options;
  }

  get count(): number {
    return this.#workers.length;
  }

  /** Starts a thread for each element, which becomes its workerData; resolves when all are ready. */
  async start(starts: object[]): Promise<void> {
    await Promise.all(starts.map((start, thread) => this.#startOne(start, thread)));
  }

  #startOne(workerData: object, thread: number): Promise<void> {
    const { name, entry, message: take, failed } = this.#options;
    return new Promise((resolve, reject) => {
      const worker = new Worker(entry, { workerData, name: `${name}-${thread}` });
      this.#workers[thread] = worker;
      this.#gathered[thread] = [];
      worker.on('error', (error) => {
        reject(error);
        failed(error as Error);
      });
      worker.on('exit', (code) => {
        if (!this.#stopping) failed(new Error(`${name} thread ${thread} ended with code ${code}`));
      });
      worker.on('message', (message: From) => {
        take(thread, message);
        if (message.type === 'ready') resolve();
        else if (message.type === 'drained') this.#drains.pop()?.(message as Drained<From>);
      });
    });
  }

  /** The array to push to: it goes to the thread at the end of this turn. undefined when there is no such thread. */
  gather(thread: number): Item[] | undefined {
    if (!this.#flushing) {
      this.#flushing = true;
      queueMicrotask(() => this.#flush());
    }
    return this.#gathered[thread];
  }

  #flush(): void {
    this.#flushing = false;
    for (let thread = 0; thread < this.#workers.length; thread++) {
      const items = this.#gathered[thread] as Item[];
      if (items.length === 0) continue;
      this.#gathered[thread] = [];
      this.post(thread, this.#options.batch(items));
    }
  }

  post(thread: number, message: To): void {
    this.#workers[thread]?.postMessage(message);
  }

  postAll(message: To): void {
    for (const worker of this.#workers) worker.postMessage(message);
  }

  /** Resolves when all threads are drained or `stop` was called, with the answers that came. */
  async drain(message: To): Promise<Drained<From>[]> {
    const answers = this.#workers.map(
      () => new Promise<Drained<From> | null>((answer) => this.#drains.push(answer)),
    );
    this.postAll(message);
    return (await Promise.all(answers)).filter((answer) => answer !== null);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const answer of this.#drains.splice(0)) answer(null);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
