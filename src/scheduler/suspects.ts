/**
 * Rows that may end the process wait here for their turn. Those whose attempt was under way at a death go out alone, one
 * at a time: should the process die again, one row is to blame. Rows taken over from a silent node are too many for
 * that, and nearly always innocent: so many at a time as could have been under way. Which of it a row goes out as is
 * written down first (mail/suspicion.ts). Everything else flows past.
 *
 * What ends a process does so at once: whoever is out for long has company, and is not suspected of what they do.
 */
import type { Job } from '../mail/job.ts';
import { SUSPICION, type SuspectMark } from '../mail/suspicion.ts';

/** Rows taken over that are out at a time. */
const COMPANY_ROWS = 1024;
/** Part of it (1/n) that has to be free before more are written down. */
const WORTH_SHARE = 8;
/** Such a row that takes longer is not counted among them. */
const COMPANY_PATIENCE_MS = 5000;
/** One that is out alone and takes longer has company; with many that wait, a part of it. */
const PATIENCE_MS = 30_000;
const MIN_PATIENCE_MS = 500;
/** How often it is looked how long they are out. */
const LOOK_MS = 250;

export interface SuspectsPorts {
  deliver(jobs: Job[]): void;
  /** Before they go out. A row that is not ours any more is left as it is. */
  mark(rows: SuspectMark[]): Promise<void>;
  /** They go out all the same: a database that is away keeps nothing here. */
  onMarkError(error: unknown): void;
}

interface Out {
  job: Job;
  looks: number;
}

export class Suspects {
  readonly #ports: SuspectsPorts;
  /** Bounded by the places with delivery: each has one. */
  #takenOver: Job[] = [];
  #suspects: Job[] = [];
  /** Being written down. */
  #leaving: Job[] = [];
  /** Taken over and out, the oldest first. */
  readonly #company = new Map<string, Out>();
  #alone: Out | null = null;
  /** Had their time alone: written down with what goes out next. */
  #forgiven: Job[] = [];
  /** Where both wait they take turns. */
  #suspectsNext = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(ports: SuspectsPorts) {
    this.#ports = ports;
  }

  /** Lets through who is no suspect. */
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

  /** An attempt is over. Asked for every one. */
  over(queueId: string, destination: string): void {
    if (this.#alone?.job.queueId === queueId && this.#alone.job.destination === destination)
      this.#alone = null;
    else if (this.#company.size === 0 || !this.#company.delete(keyOf(queueId, destination))) return;
    this.#go();
  }

  /** Takes out those that did not begin. @param wanted all when absent. */
  take(wanted: (job: Job) => boolean = () => true): Job[] {
    const taken: Job[] = [];
    const stays = (job: Job): boolean => !(wanted(job) && taken.push(job) > 0);
    this.#takenOver = this.#takenOver.filter(stays);
    this.#suspects = this.#suspects.filter(stays);
    this.#leaving = this.#leaving.filter(stays);
    return taken;
  }

  /** What waits goes nowhere: the next start has it. */
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

  /** Without those that were taken out meanwhile. */
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

  /** For as long as any is here. */
  #watch(): void {
    const waiting = this.#takenOver.length + this.#suspects.length + this.#leaving.length;
    if (waiting + this.#company.size === 0 && this.#alone === null) this.#rest();
    else this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
  }

  #look(): void {
    for (const [key, out] of this.#company)
      if (++out.looks * LOOK_MS >= COMPANY_PATIENCE_MS) this.#company.delete(key);
    const waiting = this.#takenOver.length + this.#suspects.length;
    const patienceMs = Math.max(MIN_PATIENCE_MS, PATIENCE_MS / (waiting + 1));
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
