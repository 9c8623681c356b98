/**
 * The rows this process is sending, as leases that end. While it sends them it renews them, all that are getting old
 * with one statement; should it stop or hang, others take the rows over when the lease ends. Delivery threads read
 * from shared memory whether the leases hold: content must not go out under one that lapsed, since the row may be
 * another node's by then (I6).
 */
import { GAUGE, type Gauges, LEASE_UNIT_MS } from '../admission/gauges.ts';
import type { ClaimRequest, ClaimResult, LeasedKey } from '../database/database.ts';
import type { AttemptResult, Job } from '../mail/job.ts';

interface Held extends LeasedKey {
  leaseUntilMs: number;
  /** The fencing number the job in delivery has. */
  fence: number;
  /** The number of the newest lease, when the row came to us again while it was being sent. */
  newFence: number;
}

export interface LeasesPorts {
  /** @returns how many of the rows are still ours. */
  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number>;
  /** Gives up the reference on the content of a job that does not go out. */
  release(content: number): void;
  now(): number;
  /** Leases lapsed before they could be renewed. */
  onLapse(held: number): void;
  onRenewError(error: unknown): void;
}

/** Recipients of all rows of one claim: bounds what one postMessage carries. */
const CLAIM_RECIPIENTS = 20_000;
/** A lease is renewed when less than this share of it is left. */
const RENEW_SHARE = 0.7;
/** How often in the time of a lease they are looked at. */
const LOOKS = 6;
/** Before its end, for clocks that differ and sends that take their time. */
const MARGIN_SHARE = 0.05;

export class Leases {
  readonly #ports: LeasesPorts;
  readonly #gauges: Gauges;
  readonly #leaseMs: number;
  readonly #held = new Map<string, Held>();
  #untilMs = 0;
  #timer: NodeJS.Timeout | null = null;
  #renewing = false;

  constructor(ports: LeasesPorts, gauges: Gauges, leaseMs: number) {
    this.#ports = ports;
    this.#gauges = gauges;
    this.#leaseMs = leaseMs;
  }

  /** Rows being sent. */
  get size(): number {
    return this.#held.size;
  }

  start(): void {
    this.#publish();
    this.#timer = setInterval(() => void this.look(), this.#leaseMs / LOOKS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /**
   * The job is about to be sent under a lease until then.
   * @returns false when the row is being sent by us already (its lease had lapsed, and we claimed it ourselves): it
   *   must not go out twice; the attempt under way settles under the new lease.
   */
  hold(job: Job, leaseUntilMs: number): boolean {
    const key = `${job.queueId} ${job.destination}`;
    const held = this.#held.get(key);
    if (held !== undefined) {
      held.leaseUntilMs = leaseUntilMs;
      held.newFence = job.fence;
      return false;
    }
    const { queueId, destination, fence } = job;
    this.#held.set(key, { queueId, destination, fence, newFence: fence, leaseUntilMs });
    job.leaseEpoch = Atomics.load(this.#gauges, GAUGE.leaseEpoch);
    // An answer that took long brings a lease that is partly over.
    if (leaseUntilMs < this.#untilMs) this.#setUntil(leaseUntilMs);
    return true;
  }

  /** Claims rows and holds their leases. A row we are sending already is not sent again. */
  async claim(
    destination: string,
    limit: number,
    claim: (request: ClaimRequest) => Promise<ClaimResult>,
  ): Promise<ClaimResult> {
    const nowMs = this.#ports.now();
    const leaseUntilMs = nowMs + this.#leaseMs;
    const request = { destination, limit, maxRecipients: CLAIM_RECIPIENTS, nowMs, leaseUntilMs };
    const result = await claim(request);
    const jobs = result.jobs.filter((job) => {
      if (this.hold(job, leaseUntilMs)) return true;
      this.#ports.release(job.content);
      return false;
    });
    return { ...result, jobs };
  }

  /** The fencing number to settle a result with. */
  fenceOf({ queueId, destination, fence }: Pick<AttemptResult, 'queueId' | 'destination' | 'fence'>): number {
    const held = this.#held.get(`${queueId} ${destination}`);
    return held !== undefined && held.fence === fence ? held.newFence : fence;
  }

  /** The row is settled, or was given back. */
  drop({ queueId, destination }: LeasedKey): void {
    this.#held.delete(`${queueId} ${destination}`);
  }

  /** Renews what is getting old. */
  async look(): Promise<void> {
    const nowMs = this.#ports.now();
    if (this.#held.size > 0 && nowMs >= this.#untilMs) this.#lapsed();
    if (this.#renewing) return;
    const old: Held[] = [];
    for (const held of this.#held.values())
      if (held.leaseUntilMs - nowMs < this.#leaseMs * RENEW_SHARE) old.push(held);
    if (old.length > 0) await this.#renew(old, nowMs + this.#leaseMs);
    this.#publish();
  }

  async #renew(rows: Held[], leaseUntilMs: number): Promise<void> {
    this.#renewing = true;
    try {
      const keys = rows.map(({ queueId, destination }) => ({ queueId, destination }));
      const renewed = await this.#ports.renew(keys, leaseUntilMs);
      // Rows settled meanwhile count as lost here: their jobs are over.
      const gone = rows.filter(({ queueId, destination }) => !this.#held.has(`${queueId} ${destination}`));
      if (renewed < rows.length - gone.length) this.#lapsed();
      for (const row of rows) row.leaseUntilMs = leaseUntilMs;
    } catch (error) {
      this.#ports.onRenewError(error);
    } finally {
      this.#renewing = false;
    }
  }

  /** What is being sent may be another node's by now: nothing of it may begin to go out any more. */
  #lapsed(): void {
    Atomics.add(this.#gauges, GAUGE.leaseEpoch, 1);
    this.#ports.onLapse(this.#held.size);
  }

  #publish(): void {
    let untilMs = this.#ports.now() + this.#leaseMs;
    for (const { leaseUntilMs } of this.#held.values()) if (leaseUntilMs < untilMs) untilMs = leaseUntilMs;
    this.#setUntil(untilMs);
  }

  #setUntil(untilMs: number): void {
    this.#untilMs = untilMs;
    const sinceMs = untilMs - this.#leaseMs * MARGIN_SHARE - madeAtMs(this.#gauges);
    Atomics.store(this.#gauges, GAUGE.leasesUntil, Math.floor(sinceMs / LEASE_UNIT_MS));
  }
}

/** Whether content of the job may still go out. Read by delivery threads. */
export function leaseHolds(gauges: Gauges, job: Pick<Job, 'leaseEpoch'>, nowMs: number): boolean {
  if (job.leaseEpoch !== Atomics.load(gauges, GAUGE.leaseEpoch)) return false;
  return nowMs - madeAtMs(gauges) < Atomics.load(gauges, GAUGE.leasesUntil) * LEASE_UNIT_MS;
}

const madeAtMs = (gauges: Gauges): number => (gauges[GAUGE.madeAtS] as number) * 1000;
