/**
 * The main thread's side of the delivery threads: starts them, sends each job to the thread its destination
 * belongs to (so that limits of a destination need no lock), in one postMessage per thread and loop turn.
 */
import { Worker } from 'node:worker_threads';
import type { AttemptResult, Job } from '../mail/job.ts';
import type { ConnectionDemand, ConnectionGrant } from '../scheduler/connections.ts';
import type { DeliveryThreadStart, FromDelivery, ToDelivery } from './messages.ts';

export interface DeliveryThreadsPorts {
  results(results: AttemptResult[]): void;
  destination(destination: string, suspendedUntilMs: number, reason: string): void;
  connections(demands: ConnectionDemand[]): void;
  /** A thread died: our own fault, the process must not go on. */
  failed(error: Error): void;
}

export class DeliveryThreads {
  readonly #ports: DeliveryThreadsPorts;
  readonly #workers: Worker[] = [];
  readonly #jobs: Job[][] = [];
  #flushing = false;
  #drains: ((unfinished: Job[]) => void)[] = [];
  #stopping = false;

  constructor(ports: DeliveryThreadsPorts) {
    this.#ports = ports;
  }

  async start(starts: DeliveryThreadStart[]): Promise<void> {
    await Promise.all(starts.map((start, thread) => this.#startOne(start, thread)));
  }

  #startOne(start: DeliveryThreadStart, thread: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./thread.ts', import.meta.url), {
        workerData: start,
        name: `delivery-${thread}`,
      });
      this.#workers[thread] = worker;
      this.#jobs[thread] = [];
      worker.on('error', (error) => {
        reject(error);
        this.#ports.failed(error as Error);
      });
      worker.on('exit', (code) => {
        if (!this.#stopping)
          this.#ports.failed(new Error(`delivery thread ${thread} ended with code ${code}`));
      });
      worker.on('message', (message: FromDelivery) => {
        switch (message.type) {
          case 'results':
            this.#ports.results(message.results);
            break;
          case 'destination':
            this.#ports.destination(message.destination, message.suspendedUntilMs, message.reason);
            break;
          case 'connections':
            this.#ports.connections(message.demands);
            break;
          case 'ready':
            resolve();
            break;
          case 'drained':
            this.#drains.pop()?.(message.unfinished);
            break;
        }
      });
    });
  }

  deliver(jobs: Job[]): void {
    for (const job of jobs) this.#jobs[this.#threadOf(job.destination)]?.push(job);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    for (let thread = 0; thread < this.#workers.length; thread++) {
      const jobs = this.#jobs[thread] as Job[];
      if (jobs.length === 0) continue;
      this.#jobs[thread] = [];
      this.#post(thread, { type: 'jobs', jobs });
    }
  }

  /** FNV-1a over the name: stable, so a destination keeps its thread. */
  #threadOf(destination: string): number {
    if (this.#workers.length === 1) return 0;
    let hash = 0x811c9dc5;
    for (let i = 0; i < destination.length; i++)
      hash = Math.imul(hash ^ destination.charCodeAt(i), 0x01000193);
    return (hash >>> 0) % this.#workers.length;
  }

  #post(thread: number, message: ToDelivery): void {
    this.#workers[thread]?.postMessage(message);
  }

  postAll(message: ToDelivery): void {
    for (let thread = 0; thread < this.#workers.length; thread++) this.#post(thread, message);
  }

  /** Forgets that these destinations failed: their next jobs are tried. */
  resume(destinations: string[]): void {
    this.postAll({ type: 'resume', destinations });
  }

  /** Each to the thread its destination belongs to. */
  grantConnections(grants: ConnectionGrant[]): void {
    for (const [thread, part] of Map.groupBy(grants, ({ destination }) => this.#threadOf(destination)))
      this.#post(thread, { type: 'connections', grants: part });
  }

  /** Resolves with the jobs never begun, once what was on the wire has its results; after graceMs it is cut. */
  async drain(graceMs: number): Promise<Job[]> {
    const all = Promise.all(this.#workers.map(() => new Promise<Job[]>((done) => this.#drains.push(done))));
    this.postAll({ type: 'drain', graceMs });
    return (await all).flat();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const done of this.#drains.splice(0)) done([]);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
