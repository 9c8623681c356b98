/**
 * The main thread's side of the delivery threads: sends each job to the thread its destination belongs to, so that
 * limits of a destination need no lock.
 */
import type { FieldsOf, LogLine } from '../base/log.ts';
import { WorkerThreads } from '../base/worker-threads.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import { readResults, writeJob } from '../mail/job-wire.ts';
import { judgeOf, type TakenBack } from '../mail/suspension.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';
import type { Wire } from '../mail/wire.ts';
import type { ConnectionDemand, ConnectionGrant } from '../scheduler/connections.ts';
import type { LimitNews, SlotOf } from '../shaping/limit-key.ts';
import type { DeliveryThreadStart, FromDelivery, PassedOn, ToDelivery } from './messages.ts';
import { threadOf } from './thread-of.ts';

export interface DeliveryThreadsPorts {
  results(results: AttemptResult[]): void;
  destination(destination: string, suspendedUntilMs: number, reason: string): void;
  connections(demands: ConnectionDemand[]): void;
  /** @returns slots for the keys that the thread asks for. */
  limitKeys(thread: number, news: LimitNews): SlotOf[];
  tlsSessions(sessions: TlsSession[]): void;
  /** A line for the log. */
  said(line: LogLine): void;
  /** A program error ended a dialog. */
  fault(fault: FieldsOf<'delivery.fault'>): void;
  /** A thread died. That is our own fault, and the process must not go on. */
  failed(error: Error): void;
}

/** A question to all threads. */
interface Ask {
  /** Of a question that takes jobs back: which are meant. */
  isMeant: ((job: Job) => boolean) | undefined;
  left: number;
  answers: unknown[];
  resolve(answers: unknown[]): void;
}

export class DeliveryThreads {
  readonly #ports: DeliveryThreadsPorts;
  readonly #threads: WorkerThreads<Job, ToDelivery, FromDelivery>;
  readonly reactorIds: number[] = [];

  #asked = 0;
  #draining = false;
  /** Jobs that were on their way from one thread to another when the drain began. */
  readonly #late: Job[] = [];
  /** Questions to all threads that not all have answered yet. */
  readonly #asks = new Map<number, Ask>();

  constructor(ports: DeliveryThreadsPorts) {
    this.#ports = ports;
    this.#threads = new WorkerThreads({
      name: 'delivery',
      entry: new URL('./thread.ts', import.meta.url),
      batch: (jobs) => {
        const wire: Wire = [];
        for (const job of jobs) writeJob(wire, job);
        return { type: 'jobs', wire, count: jobs.length };
      },
      message: (thread, message) => this.#message(thread, message),
      failed: (error) => ports.failed(error),
    });
  }

  start(starts: DeliveryThreadStart[]): Promise<void> {
    return this.#threads.start(starts);
  }

  #message(thread: number, message: FromDelivery): void {
    if (message.type === 'ready') this.reactorIds[thread] = message.reactorId;
    else if (message.type === 'results') this.#ports.results(readResults(message.wire, message.count));
    else if (message.type === 'destination')
      this.#ports.destination(message.destination, message.suspendedUntilMs, message.reason);
    else if (message.type === 'connections') this.#ports.connections(message.demands);
    else if (message.type === 'limit-keys') {
      const slots = this.#ports.limitKeys(thread, message.news);
      if (slots.length > 0) this.#threads.post(thread, { type: 'limit-slots', slots });
    } else if (message.type === 'tls-sessions') this.#ports.tlsSessions(message.sessions);
    else if (message.type === 'taken-back') this.#answered(message.ask, message.jobs);
    else if (message.type === 'unknown-replies') this.#answered(message.ask, message.replies);
    else if (message.type === 'passed-on') for (const one of message.jobs) this.#passOn(one);
    else if (message.type === 'fault') this.#ports.fault(message.fault);
    else if (message.type === 'log') for (const line of message.lines) this.#ports.said(line);
  }

  deliver(jobs: Job[]): void {
    for (const job of jobs) this.#threads.gather(this.#threadOf(job.destination))?.push(job);
  }

  /** A job goes from the thread of its destination to that of the next hop which rules give it. */
  #passOn({ job, key }: PassedOn): void {
    // Whoever is taking jobs back has asked the other thread already.
    const ask = [...this.#asks.values()].find(({ isMeant }) => isMeant?.(job) === true);
    if (ask !== undefined) ask.answers.push([job]);
    else if (this.#draining) this.#late.push(job);
    else this.#threads.gather(this.#threadOf(key))?.push(job);
  }

  #threadOf(destination: string): number {
    return threadOf(destination, this.#threads.count);
  }

  postAll(message: ToDelivery): void {
    this.#threads.postAll(message);
  }

  /** Takes back those jobs that are meant and that no connection has begun. */
  async takeBack(meant: TakenBack): Promise<Job[]> {
    // Let jobs that were handed over in this turn reach the threads first.
    await new Promise((resolve) => setImmediate(resolve));
    const question = (ask: number): ToDelivery => ({ type: 'take-back', ask, meant });
    return (await this.#askAll<Job[]>(question, judgeOf(meant))).flat();
  }

  /** Refusals that no rule knew, of each thread. */
  unknownReplies(): Promise<UnknownReply[][]> {
    return this.#askAll<UnknownReply[]>((ask) => ({ type: 'unknown-replies', ask }));
  }

  #askAll<Answer>(question: (ask: number) => ToDelivery, isMeant?: (job: Job) => boolean): Promise<Answer[]> {
    const ask = ++this.#asked;
    return new Promise((resolve) => {
      this.#asks.set(ask, {
        isMeant,
        left: this.#threads.count,
        answers: [],
        resolve: resolve as Ask['resolve'],
      });
      this.postAll(question(ask));
    });
  }

  #answered(ask: number, answer: unknown): void {
    const asked = this.#asks.get(ask);
    if (asked === undefined) return;
    asked.answers.push(answer);
    if (--asked.left > 0) return;
    this.#asks.delete(ask);
    asked.resolve(asked.answers);
  }

  /** Forgets that these destinations failed: their next jobs are tried. */
  resume(destinations: string[]): void {
    this.postAll({ type: 'resume', destinations });
  }

  /** Sends each grant to the thread of its destination. */
  grantConnections(grants: ConnectionGrant[]): void {
    for (const [thread, part] of Map.groupBy(grants, ({ destination }) => this.#threadOf(destination)))
      this.#threads.post(thread, { type: 'connections', grants: part });
  }

  /**
   * Resolves with the jobs that were never begun, once jobs on the wire have their results; these are cut off after
   * graceMs.
   */
  async drain(graceMs: number): Promise<Job[]> {
    this.#draining = true;
    const answers = await this.#threads.drain({ type: 'drain', graceMs });
    return [...answers.flatMap(({ unfinished }) => unfinished), ...this.#late];
  }

  stop(): Promise<void> {
    for (const { answers, resolve } of this.#asks.values()) resolve(answers);
    this.#asks.clear();
    return this.#threads.stop();
  }
}
