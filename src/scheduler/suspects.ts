/**
 * Rows whose attempt was under way when a process died, and rows taken over from a node that is silent, go to delivery
 * alone, one at a time: should the process die again, only the guilty one has two deaths. One whose attempt takes long
 * does not keep the others: what ends a process does so at once.
 */
import type { Job } from '../mail/job.ts';

/** A suspect that takes longer than this has company; with many that wait, a part of it. */
const PATIENCE_MS = 30_000;
const MIN_PATIENCE_MS = 250;

export class Suspects {
  readonly #deliver: (jobs: Job[]) => void;
  /** Bounded by the places with delivery: each has one. */
  #waiting: Job[] = [];
  #out: Job | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(deliver: (jobs: Job[]) => void) {
    this.#deliver = deliver;
  }

  /** Lets through who is no suspect. */
  deliver(jobs: Job[]): void {
    let innocent = jobs;
    if (jobs.some(({ deaths }) => deaths !== undefined)) {
      innocent = jobs.filter(({ deaths }) => deaths === undefined);
      for (const job of jobs) if (job.deaths !== undefined) this.#waiting.push(job);
    }
    if (innocent.length > 0) this.#deliver(innocent);
    if (this.#out === null) this.#next();
  }

  /** An attempt is over. Asked for every one. */
  over(queueId: string, destination: string): void {
    if (this.#out === null || this.#out.queueId !== queueId || this.#out.destination !== destination) return;
    this.#next();
  }

  /** Takes out those that did not begin. @param wanted all when absent. */
  take(wanted: (job: Job) => boolean = () => true): Job[] {
    const taken = this.#waiting.filter(wanted);
    if (taken.length > 0) this.#waiting = this.#waiting.filter((job) => !taken.includes(job));
    return taken;
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #next(): void {
    this.stop();
    this.#out = this.#waiting.shift() ?? null;
    if (this.#out === null) return;
    const patienceMs = Math.max(MIN_PATIENCE_MS, PATIENCE_MS / (this.#waiting.length + 1));
    this.#timer = setTimeout(() => this.#next(), patienceMs).unref();
    this.#deliver([this.#out]);
  }
}
