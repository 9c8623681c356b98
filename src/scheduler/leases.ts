/**
 * The rows this process is sending, as leases that end. While it sends them it renews them, all that are getting old
 * with one statement; should it stop or hang, others take the rows over when the lease ends. Delivery threads read
 * from shared memory whether the leases hold: content must not go out under one that lapsed, since the row may be
 * another node's by then (I6).
 *
 * Both the time of day and steady time must say that a lease holds: a process that was suspended knows it by the first,
 * and a clock that is set back prolongs nothing.
 *
 * Each shard is a matter of its own: one that cannot be reached lets its leases lapse, and no others.
 */
import {
  GAUGE,
  type Gauges,
  LEASE_UNIT_MS,
  leaseEpochOf,
  leasesSteadyUntilOf,
  leasesUntilOf,
} from '../admission/gauges.ts';
import { PairMap } from '../base/pair-map.ts';
import type { ClaimRequest, ClaimResult, LeasedKey } from '../database/database.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';

interface Held extends LeasedKey {
  leaseUntilMs: number;
  /** The same in steady time. */
  steadyUntilMs: number;
  /** leaseEpochOf the shard when it came: what came before a lapse goes out no more. */
  epoch: number;
  /** The fencing number the job in delivery has. */
  fence: number;
  /** The number of the newest lease, when the row came to us again while it was being sent. */
  newFence: number;
  /** Its attempt is over, and being written down. */
  over: boolean;
}

/** Rows being sent of one shard. */
interface ShardLeases {
  readonly shard: number;
  /** By queue id and destination. */
  readonly held: PairMap<Held>;
  /** All of them hold until then, but for those of before a lapse. */
  untilMs: number;
  steadyUntilMs: number;
  renewing: boolean;
}

export interface LeasesPorts {
  /** @param rows all of one shard. @returns how many of them are still ours. */
  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number>;
  /** Gives up the reference on the content of a job that does not go out. */
  release(content: number): void;
  /** A claim brought rows of messages that are being withdrawn: they wait again. */
  giveBack(jobs: Job[]): void;
  /** The time of day, as leases in the database have it. */
  now(): number;
  /** Steady time; absent: `now` is. */
  steady?(): number;
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
  /** By number, those that had rows. */
  readonly #shards = new Map<number, ShardLeases>();
  /** Rows that came to us again, with the recipients that waited then: others may have settled some meanwhile. */
  readonly #cameAgain = new Map<Held, ReadonlySet<number>>();
  /** Messages that are being withdrawn. */
  readonly #withdrawing = new Set<string>();
  /** For each claim under way, messages that were being withdrawn meanwhile: what it brings of them goes nowhere. */
  readonly #claims = new Set<Set<string>>();
  #timer: NodeJS.Timeout | null = null;

  constructor(ports: LeasesPorts, gauges: Gauges, leaseMs: number) {
    this.#ports = ports;
    this.#gauges = gauges;
    this.#leaseMs = leaseMs;
  }

  #steady(): number {
    return this.#ports.steady?.() ?? this.#ports.now();
  }

  /** Rows being sent. */
  get size(): number {
    let size = 0;
    for (const { held } of this.#shards.values()) size += held.size;
    return size;
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), this.#leaseMs / LOOKS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #of(queueId: string): ShardLeases {
    const shard = shardOfQueueId(queueId);
    let leases = this.#shards.get(shard);
    if (leases === undefined) {
      leases = { shard, held: new PairMap(destinationOf), untilMs: 0, steadyUntilMs: 0, renewing: false };
      this.#shards.set(shard, leases);
      this.#publish(leases);
    }
    return leases;
  }

  /**
   * The job is about to be sent under a lease until then.
   * @returns false when the row is being sent by us already (its lease had lapsed, and we claimed it ourselves): it
   *   must not go out twice; the attempt under way settles under the new lease.
   */
  hold(job: Job, leaseUntilMs: number): boolean {
    const { queueId, destination, fence } = job;
    const leases = this.#of(queueId);
    // Each clock once: this is done for every message.
    const nowMs = this.#ports.now();
    const steadyMs = this.#steady();
    // What is held has lapsed and nobody has looked yet: this one, which is fresh, must not be taken for one of those.
    if (isOver(leases, nowMs, steadyMs)) this.#lapsed(leases);
    const steadyUntilMs = steadyMs + leaseUntilMs - nowMs;
    const held = leases.held.get(queueId, destination);
    if (held !== undefined) {
      // The answer to a commit that was in doubt comes after a claim of what it stored.
      if (fence < held.newFence) return false;
      this.#cameAgain.set(held, new Set(job.recipients.map(({ seq }) => seq)));
      held.leaseUntilMs = leaseUntilMs;
      held.steadyUntilMs = steadyUntilMs;
      held.newFence = fence;
      return false;
    }
    const epoch = Atomics.load(this.#gauges, leaseEpochOf(leases.shard));
    const row = {
      queueId,
      destination,
      fence,
      newFence: fence,
      leaseUntilMs,
      steadyUntilMs,
      epoch,
      over: false,
    };
    leases.held.set(queueId, destination, row);
    job.leaseEpoch = epoch;
    // An answer that took long brings a lease that is partly over.
    if (leaseUntilMs < leases.untilMs || steadyUntilMs < leases.steadyUntilMs)
      this.#setUntil(
        leases,
        Math.min(leaseUntilMs, leases.untilMs),
        Math.min(steadyUntilMs, leases.steadyUntilMs),
      );
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
    const withdrawn = new Set(this.#withdrawing);
    this.#claims.add(withdrawn);
    try {
      const result = await claim(request);
      return { ...result, jobs: this.#held(result.jobs, withdrawn, leaseUntilMs) };
    } finally {
      this.#claims.delete(withdrawn);
    }
  }

  #held(claimed: Job[], withdrawn: ReadonlySet<string>, leaseUntilMs: number): Job[] {
    const back = withdrawn.size === 0 ? [] : claimed.filter(({ queueId }) => withdrawn.has(queueId));
    if (back.length > 0) this.#ports.giveBack(back);
    return claimed.filter((job) => {
      if (!withdrawn.has(job.queueId) && this.hold(job, leaseUntilMs)) return true;
      this.#ports.release(job.content);
      return false;
    });
  }

  /** From here on no claim brings a row of the message, those under way included. */
  withdraw(queueId: string): void {
    this.#withdrawing.add(queueId);
    for (const claim of this.#claims) claim.add(queueId);
  }

  /** It is gone, or stays after all. */
  withdrawn(queueId: string): void {
    this.#withdrawing.delete(queueId);
  }

  /** The fencing number to settle a result with: asked whenever it is written, since the row may have come anew. */
  fenceOf({ queueId, destination, fence }: Pick<AttemptResult, 'queueId' | 'destination' | 'fence'>): number {
    const held = this.#of(queueId).held.get(queueId, destination);
    if (held === undefined || held.fence !== fence) return fence;
    held.over = true;
    return held.newFence;
  }

  /** Results as attempts bring them: without recipients whose fate others have written, and reports on those alone. */
  over(results: AttemptResult[]): AttemptResult[] {
    if (this.#cameAgain.size === 0) return results;
    return results.map((result) => {
      const counting = this.counting(result);
      if (counting === result || counting.delayNotified) return counting;
      if (counting.groups.some(({ outcome }) => outcome.kind !== 'deferred')) return counting;
      for (const { content } of result.dsns) this.#ports.release(content);
      return { ...counting, dsns: [] };
    });
  }

  /** The result without recipients that had their fate when the row came to us again. */
  counting(result: AttemptResult): AttemptResult {
    if (this.#cameAgain.size === 0) return result;
    const held = this.#of(result.queueId).held.get(result.queueId, result.destination);
    const waiting = held?.fence === result.fence ? this.#cameAgain.get(held) : undefined;
    if (waiting === undefined) return result;
    if (result.groups.every(({ seqs }) => seqs.every((seq) => waiting.has(seq)))) return result;
    const groups = result.groups.map((group) => ({
      ...group,
      seqs: group.seqs.filter((seq) => waiting.has(seq)),
    }));
    return { ...result, groups: groups.filter(({ seqs }) => seqs.length > 0) };
  }

  /** The row is settled, or was given back. */
  drop({ queueId, destination }: LeasedKey): void {
    const { held } = this.#of(queueId);
    if (this.#cameAgain.size > 0) this.#cameAgain.delete(held.get(queueId, destination) as Held);
    held.delete(queueId, destination);
  }

  /** Renews what is getting old. */
  async look(): Promise<void> {
    await Promise.all([...this.#shards.values()].map((leases) => this.#lookAt(leases)));
  }

  async #lookAt(leases: ShardLeases): Promise<void> {
    const nowMs = this.#ports.now();
    const steadyMs = this.#steady();
    const { held } = leases;
    if (isOver(leases, nowMs, steadyMs)) this.#lapsed(leases);
    if (leases.renewing) return;
    const old: Held[] = [];
    for (const one of held.values())
      if (Math.min(one.leaseUntilMs - nowMs, one.steadyUntilMs - steadyMs) < this.#leaseMs * RENEW_SHARE)
        old.push(one);
    if (old.length > 0) await this.#renew(leases, old, nowMs + this.#leaseMs, steadyMs + this.#leaseMs);
    this.#publish(leases);
  }

  async #renew(
    leases: ShardLeases,
    rows: Held[],
    leaseUntilMs: number,
    steadyUntilMs: number,
  ): Promise<void> {
    leases.renewing = true;
    try {
      const keys = rows.map(({ queueId, destination }) => ({ queueId, destination }));
      const renewed = await this.#ports.renew(keys, leaseUntilMs);
      // Rows settled meanwhile count as lost here, whether we know it already or not: their attempts are over.
      const sending = rows.filter(
        (row) => !row.over && leases.held.get(row.queueId, row.destination) === row,
      );
      if (renewed < sending.length) this.#lapsed(leases);
      for (const row of rows) {
        row.leaseUntilMs = leaseUntilMs;
        row.steadyUntilMs = steadyUntilMs;
      }
    } catch (error) {
      this.#ports.onRenewError(error);
    } finally {
      leases.renewing = false;
    }
  }

  /** What is being sent may be another node's by now: nothing of it may begin to go out any more. */
  #lapsed(leases: ShardLeases): void {
    Atomics.add(this.#gauges, leaseEpochOf(leases.shard), 1);
    this.#ports.onLapse(leases.held.size);
    this.#publish(leases);
  }

  #publish(leases: ShardLeases): void {
    const epoch = Atomics.load(this.#gauges, leaseEpochOf(leases.shard));
    let untilMs = this.#ports.now() + this.#leaseMs;
    let steadyUntilMs = this.#steady() + this.#leaseMs;
    for (const held of leases.held.values()) {
      if (held.epoch !== epoch) continue;
      if (held.leaseUntilMs < untilMs) untilMs = held.leaseUntilMs;
      if (held.steadyUntilMs < steadyUntilMs) steadyUntilMs = held.steadyUntilMs;
    }
    this.#setUntil(leases, untilMs, steadyUntilMs);
  }

  #setUntil(leases: ShardLeases, untilMs: number, steadyUntilMs: number): void {
    leases.untilMs = untilMs;
    leases.steadyUntilMs = steadyUntilMs;
    const steadySinceMs = steadyUntilMs - this.#leaseMs * MARGIN_SHARE;
    Atomics.store(
      this.#gauges,
      leasesSteadyUntilOf(leases.shard),
      Math.floor(steadySinceMs / LEASE_UNIT_MS) | 0,
    );
    const sinceMs = untilMs - this.#leaseMs * MARGIN_SHARE - madeAtMs(this.#gauges);
    Atomics.store(this.#gauges, leasesUntilOf(leases.shard), Math.floor(sinceMs / LEASE_UNIT_MS));
  }
}

function isOver({ held, untilMs, steadyUntilMs }: ShardLeases, nowMs: number, steadyMs: number): boolean {
  return held.size > 0 && (nowMs >= untilMs || steadyMs >= steadyUntilMs);
}

const destinationOf = ({ destination }: Held): string => destination;

/** Whether content of the job may still go out. Read by delivery threads. */
export function leaseHolds(
  gauges: Gauges,
  job: Pick<Job, 'queueId' | 'leaseEpoch'>,
  nowMs: number,
  steadyMs = nowMs,
): boolean {
  const shard = shardOfQueueId(job.queueId);
  if (job.leaseEpoch !== Atomics.load(gauges, leaseEpochOf(shard))) return false;
  // Kept modulo 2³²: what counts is the difference.
  const left = Atomics.load(gauges, leasesSteadyUntilOf(shard)) - Math.floor(steadyMs / LEASE_UNIT_MS);
  if ((left | 0) <= 0) return false;
  return nowMs - madeAtMs(gauges) < Atomics.load(gauges, leasesUntilOf(shard)) * LEASE_UNIT_MS;
}

const madeAtMs = (gauges: Gauges): number => (gauges[GAUGE.madeAtS] as number) * 1000;
