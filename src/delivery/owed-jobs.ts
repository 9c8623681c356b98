/** The jobs that a sender has taken and owes an answer for, and the answers of a loop turn, which go out as one post. */
import type { AttemptResult, Job } from '../mail/job.ts';
import { ResultBatch } from '../mail/job-wire.ts';
import type { FromDelivery, PassedOn } from './messages.ts';
import { threadOf } from './thread-of.ts';

export interface OwedJobsPorts {
  post(message: FromDelivery): void;
  /** Which of how many threads this is; absent: there is no other. */
  thread?: number;
  threads?: number;
}

export class OwedJobs {
  readonly #ports: OwedJobsPorts;
  readonly #results = new ResultBatch();
  #unfinished: Job[] = [];
  #passed: PassedOn[] = [];
  #drained = false;
  /** Number of jobs taken and not yet answered. */
  count = 0;

  constructor(ports: OwedJobsPorts) {
    this.#ports = ports;
  }

  answer(result: AttemptResult): void {
    this.count--;
    this.#results.add(result);
  }

  /** The job goes back with the end of the drain. */
  handBack(job: Job): void {
    this.count--;
    this.#unfinished.push(job);
  }

  /** Gives the job to the thread of this key. @returns false: that is this one. */
  passOn(job: Job, key: string): boolean {
    const { thread = 0, threads = 1 } = this.#ports;
    if (threadOf(key, threads) === thread) return false;
    this.count--;
    this.#passed.push({ job, key });
    return true;
  }

  /** Posts what was answered, and what was passed on. @param draining that no job is owed any more is told then. */
  flush(draining: boolean): void {
    const results = this.#results.take();
    if (results !== null) this.#ports.post({ type: 'results', ...results });
    if (this.#passed.length > 0) {
      this.#ports.post({ type: 'passed-on', jobs: this.#passed });
      this.#passed = [];
    }
    if (!draining || this.#drained || this.count > 0) return;
    this.#drained = true;
    this.#ports.post({ type: 'drained', unfinished: this.#unfinished });
    this.#unfinished = [];
  }
}
