/** What a delivery thread has for the main thread, gathered for one message of each kind per loop turn. */
import type { AttemptResult, Job } from '../mail/job.ts';
import { ResultBatch } from '../mail/job-wire.ts';
import type { FromDelivery, PassedOn } from './messages.ts';
import { threadOf } from './thread-of.ts';

export interface PostsPorts {
  post(message: FromDelivery): void;
  /** Which of how many threads this is; absent: there is no other. */
  thread?: number;
  threads?: number;
}

export class Posts {
  readonly #ports: PostsPorts;
  readonly #results = new ResultBatch();
  #passed: PassedOn[] = [];
  #unfinished: Job[] = [];
  /** Jobs taken, and neither answered nor given away. */
  held = 0;

  constructor(ports: PostsPorts) {
    this.#ports = ports;
  }

  result(result: AttemptResult): void {
    this.held--;
    this.#results.add(result);
  }

  /** Gives the job to the thread of this key. @returns false: that is this one. */
  passOn(job: Job, key: string): boolean {
    const { thread = 0, threads = 1 } = this.#ports;
    if (threadOf(key, threads) === thread) return false;
    this.held--;
    this.#passed.push({ job, key });
    return true;
  }

  handBack(job: Job): void {
    this.held--;
    this.#unfinished.push(job);
  }

  /** Everything is answered, or given back. */
  drained(): void {
    this.#ports.post({ type: 'drained', unfinished: this.#unfinished });
    this.#unfinished = [];
  }

  flush(): void {
    const results = this.#results.take();
    if (results !== null) this.#ports.post({ type: 'results', ...results });
    if (this.#passed.length === 0) return;
    this.#ports.post({ type: 'passed-on', jobs: this.#passed });
    this.#passed = [];
  }
}
