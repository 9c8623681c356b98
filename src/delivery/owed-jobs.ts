/** The jobs that a sender has taken and owes an answer for, and the answers of a loop turn, which go out as one post. */
import type { AttemptResult, Job } from '../mail/job.ts';
import { ResultBatch } from '../mail/job-wire.ts';
import type { FromDelivery } from './messages.ts';

export class OwedJobs {
  readonly #post: (message: FromDelivery) => void;
  readonly #results = new ResultBatch();
  #unfinished: Job[] = [];
  #drained = false;
  /** Number of jobs taken and not yet answered. */
  count = 0;

  constructor(post: (message: FromDelivery) => void) {
    this.#post = post;
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

  /** Posts what was answered. @param draining that no job is owed any more is told then. */
  flush(draining: boolean): void {
    const results = this.#results.take();
    if (results !== null) this.#post({ type: 'results', ...results });
    if (!draining || this.#drained || this.count > 0) return;
    this.#drained = true;
    this.#post({ type: 'drained', unfinished: this.#unfinished });
    this.#unfinished = [];
  }
}
