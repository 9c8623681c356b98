/**
 * Rows that may end the process wait here for their turn. Rows whose attempt was under way when a process died are
 * suspects, and are sent alone, one at a time: should the process die again, that row is to blame. Rows taken over from
 * a silent node are too many for that, and nearly always innocent: they are sent in company, as many at a time as could
 * have been under way. How a row is sent is written down first (mail/suspicion.ts). All other rows pass at once.
 *
 * A row that ends a process does so at once. So a row that has been out alone for long is forgiven: the next ones are
 * sent beside it, and if the process dies now, it is a suspect like them.
 */
import type { Job } from '../mail/job.ts';
import { SUSPICION, type SuspectMark } from '../mail/suspicion.ts';

/** Most rows that are sent in company at a time. */
const COMPANY_ROWS = 1024;
/** More such rows are written down and sent only when 1/n of COMPANY_ROWS is free. */
const WORTH_SHARE = 8;
/** A row in company that takes longer does not count any more. */
const COMPANY_PATIENCE_MS = 5000;
/** A row sent alone that takes longer is forgiven. The more rows wait, the shorter is the patience. */
const ALONE_PATIENCE_MS = 30_000;
const MIN_ALONE_PATIENCE_MS = 500;
/** How often the times of rows being sent are checked. */
const LOOK_MS = 250;

export interface SuspectsPorts {
  deliver(jobs: Job[]): void;
  /** Writes the marks down before the rows are sent. A row that is not ours any more is left as it is. */
  mark(rows: SuspectMark[]): Promise<void>;
  /** The marks could not be written. The rows are sent all the same: a database that is away must not hold them up. */
  onMarkError(error: unknown): void;
}

interface Out {
  job: Job;
  looks: number;
}

export class Suspects {
  readonly #ports: SuspectsPorts;
  /** Rows taken over that wait. Each row here has a place with delivery, which bounds them. */
  #takenOver: Job[] = [];
  #suspects: Job[] = [];
  /** Rows whose marks are being written. */
  #leaving: Job[] = [];
  /** Rows being sent in company, the oldest first. */
  readonly #company = new Map<string, Out>();
  #alone: Out | null = null;
  /** Rows that were forgiven: the next marks write down that they are not alone any more. */
  #forgiven: Job[] = [];
  /** Suspects and rows taken over take turns when both wait. */
  #suspectsNext = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(ports: SuspectsPorts) {
    this.#ports = ports;
  }

  /** Takes jobs: delivers at once those without suspicion, and keeps the others until their turn. */
  deliver(jobs: Job[]): void {
    if (jobs.every(({ suspicion }) => suspicion === undefined)) {
      this.#ports.deliver(jobs);
      return;
    }
    const free = jobs.filter(({ suspicion }) => suspicion === undefined);
    for (const job of jobs)
      if (job.suspicion !== undefined)
        (job.suspicion >= SUSPICION.suspect ? this.#suspects : this.#takenOver).push(job);
    if (free.length > 0) this.#ports.deliver(free);
    this.#go();
  }

  /** An attempt is over. Called for every attempt. */
  over(queueId: string, destination: string): void {
    if (this.#alone?.job.queueId === queueId && this.#alone.job.destination === destination)
      this.#alone = null;
    else if (this.#company.size === 0 || !this.#company.delete(keyOf(queueId, destination))) return;
    this.#go();
  }

  /** Takes out jobs that are not being sent yet. @param wanted which of them; default: all. */
  take(wanted: (job: Job) => boolean = () => true): Job[] {
    const taken: Job[] = [];
    const stays = (job: Job): boolean => !(wanted(job) && taken.push(job) > 0);
    this.#takenOver = this.#takenOver.filter(stays);
    this.#suspects = this.#suspects.filter(stays);
    this.#leaving = this.#leaving.filter(stays);
    return taken;
  }

  /** Drops the jobs that wait: the next start finds their rows. */
  stop(): void {
    this.take();
    this.#rest();
  }

  #rest(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #go(): void {
    if (this.#leaving.length > 0 || this.#alone !== null) return;
    const suspects = this.#suspects.length > 0 && (this.#suspectsNext || this.#takenOver.length === 0);
    if (suspects) {
      if (this.#company.size === 0) this.#send(this.#suspects.splice(0, 1), SUSPICION.alone);
    } else {
      const room = COMPANY_ROWS - this.#company.size;
      if (room >= Math.min(COMPANY_ROWS / WORTH_SHARE, this.#takenOver.length))
        this.#send(this.#takenOver.splice(0, room), SUSPICION.inCompany);
    }
    this.#watch();
  }

  #send(jobs: Job[], suspicion: number): void {
    if (jobs.length === 0) return;
    this.#leaving = jobs;
    this.#suspectsNext = suspicion === SUSPICION.inCompany;
    const marks = this.#forgiven.map((job) => markOf(job, SUSPICION.suspect));
    for (const job of jobs) marks.push(markOf(job, suspicion));
    this.#forgiven = [];
    this.#ports
      .mark(marks)
      .catch((error: unknown) => this.#ports.onMarkError(error))
      .then(() => this.#leave(suspicion));
  }

  /** The marks are written: delivers the jobs that were not taken out meanwhile. */
  #leave(suspicion: number): void {
    const jobs = this.#leaving;
    this.#leaving = [];
    for (const job of jobs) {
      const out = { job, looks: 0 };
      if (suspicion === SUSPICION.alone) this.#alone = out;
      else this.#company.set(keyOf(job.queueId, job.destination), out);
    }
    if (jobs.length > 0) this.#ports.deliver(jobs);
    this.#go();
  }

  /** Runs the timer as long as there is any row here. */
  #watch(): void {
    const waiting = this.#takenOver.length + this.#suspects.length + this.#leaving.length;
    if (waiting + this.#company.size === 0 && this.#alone === null) this.#rest();
    else this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
  }

  #look(): void {
    for (const [key, out] of this.#company)
      if (++out.looks * LOOK_MS >= COMPANY_PATIENCE_MS) this.#company.delete(key);
    const waiting = this.#takenOver.length + this.#suspects.length;
    const patienceMs = Math.max(MIN_ALONE_PATIENCE_MS, ALONE_PATIENCE_MS / (waiting + 1));
    if (this.#alone !== null && ++this.#alone.looks * LOOK_MS >= patienceMs && waiting > 0) {
      this.#forgiven.push(this.#alone.job);
      this.#alone = null;
    }
    this.#go();
  }
}

const keyOf = (queueId: string, destination: string): string => `${queueId} ${destination}`;

const markOf = ({ queueId, destination, fence }: Job, suspicion: number): SuspectMark => ({
  queueId,
  destination,
  fence,
  suspicion,
});
