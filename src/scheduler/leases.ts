/**
 * The leases of the rows that this process is sending. It renews those that are getting old, many with one statement;
 * should it stop or hang, others take the rows over when the leases end. Delivery threads read from shared memory
 * whether the leases hold: content must not go out under a lapsed lease, because the row may be another node's by then
 * (I6).
 *
 * A lease holds only if it holds by the time of day and by steady time: the time of day shows that the process was
 * suspended, and by steady time a clock that is set back does not prolong a lease.
 *
 * Each shard counts by itself: when one cannot be reached, only its leases lapse.
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
  /** The end of the lease in steady time. */
  steadyUntilMs: number;
  /** leaseEpochOf the shard when the row came. A lapse raises it, and rows of earlier epochs do not go out any more. */
  epoch: number;
  /** The fencing number of the job in delivery. */
  fence: number;
  /**
   * The fencing number of the newest lease; higher than `fence` when the row came to us again while it was being sent.
   */
  newFence: number;
  /** The attempt is over, and its result is being written down. */
  over: boolean;
}

/** The rows of one shard that are being sent. */
interface ShardLeases {
  readonly shard: number;
  /** Leases by queue id and destination. */
  readonly held: PairMap<Held>;
  /** All of them hold until then, except those from before a lapse. */
  untilMs: number;
  steadyUntilMs: number;
  renewing: boolean;
}

export interface LeasesPorts {
  /** @param rows all of one shard. @returns how many of them are still ours. */
  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number>;
  /** Gives up the reference on the content of a job that does not go out. */
  release(content: number): void;
  /** Gives back rows that a claim brought although their messages are being withdrawn. */
  giveBack(jobs: Job[]): void;
  /** The time of day, as leases in the database have it. */
  now(): number;
  /** Steady time; default: `now`. */
  steady?(): number;
  /** Called when this many leases lapsed before they could be renewed. */
  onLapse(held: number): void;
  onRenewError(error: unknown): void;
}

/** Most recipients of all rows of one claim; bounds what one postMessage carries. */
const CLAIM_RECIPIENTS = 20_000;
/** A lease is renewed when less than this share of it is left. */
const RENEW_SHARE = 0.7;
/** How often leases are looked at in the time of one. */
const LOOKS_PER_LEASE = 6;
/** A lease counts as over this share of its length before its end: clocks differ, and sending takes time. */
const MARGIN_SHARE = 0.05;

export class Leases {
  readonly #ports: LeasesPorts;
  readonly #gauges: Gauges;
  readonly #leaseMs: number;
  /** The shards that had rows, by number. */
  readonly #shards = new Map<number, ShardLeases>();
  /**
   * Rows that came to us again, with the recipients that still waited then: another node may have settled the others.
   */
  readonly #cameAgain = new Map<Held, ReadonlySet<number>>();
  /** Messages that are being withdrawn. */
  readonly #withdrawing = new Set<string>();
  /** For each claim under way, the messages that were being withdrawn during it: their rows are given back. */
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

  /** Number of rows being sent. */
  get size(): number {
    let size = 0;
    for (const { held } of this.#shards.values()) size += held.size;
    return size;
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), this.#leaseMs / LOOKS_PER_LEASE);
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
   * Notes that the job is about to be sent, under a lease until `leaseUntilMs`.
   * @returns false when we are sending the row already (its lease had lapsed, and we claimed it again ourselves): it
   *   must not go out twice, and the attempt under way settles under the new lease.
   */
  hold(job: Job, leaseUntilMs: number): boolean {
    const { queueId, destination, fence } = job;
    const leases = this.#of(queueId);
    // Read each clock only once, because this is done for every message.
    const nowMs = this.#ports.now();
    const steadyMs = this.#steady();
    // If the leases have lapsed and nobody has looked yet, look now: this fresh lease must not count as lapsed, too.
    if (isOver(leases, nowMs, steadyMs)) this.#lapsed(leases);
    const steadyUntilMs = steadyMs + leaseUntilMs - nowMs;
    const held = leases.held.get(queueId, destination);
    if (held !== undefined) {
      // This lease is from a commit that was in doubt, and a claim has leased the row again since.
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
    // When the answer took long, part of this lease is over already.
    if (leaseUntilMs < leases.untilMs || steadyUntilMs < leases.steadyUntilMs)
      this.#setUntil(
        leases,
        Math.min(leaseUntilMs, leases.untilMs),
        Math.min(steadyUntilMs, leases.steadyUntilMs),
      );
    return true;
  }

  /** Claims rows and holds their leases. Rows that we are sending already are left out of the answer. */
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

  /** From here on no claim brings a row of the message, not even one that is under way. */
  withdraw(queueId: string): void {
    this.#withdrawing.add(queueId);
    for (const claim of this.#claims) claim.add(queueId);
  }

  /** The withdrawal is over: the message is gone, or stays after all. */
  withdrawn(queueId: string): void {
    this.#withdrawing.delete(queueId);
  }

  /** The fencing number to settle a result with. To be asked at each try to write it: the row may have come to us again. */
  fenceOf({ queueId, destination, fence }: Pick<AttemptResult, 'queueId' | 'destination' | 'fence'>): number {
    const held = this.#of(queueId).held.get(queueId, destination);
    if (held === undefined || held.fence !== fence) return fence;
    held.over = true;
    return held.newFence;
  }

  /**
   * Takes results of attempts. Returns them without recipients that others have settled, and without DSNs that would
   * report on those alone.
   */
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

  /** The result without recipients that were settled already when the row came to us again. */
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

  /** Forgets a row that is settled, or was given back. */
  drop({ queueId, destination }: LeasedKey): void {
    const { held } = this.#of(queueId);
    if (this.#cameAgain.size > 0) this.#cameAgain.delete(held.get(queueId, destination) as Held);
    held.delete(queueId, destination);
  }

  /** Renews leases that are getting old. */
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
      // `renew` does not count rows that were settled meanwhile; those are not being sent any more.
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

  /** The rows being sent may be another node's by now: no content of them may begin to go out any more. */
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

/** Whether content of the job may still go out. Called by delivery threads. */
export function leaseHolds(
  gauges: Gauges,
  job: Pick<Job, 'queueId' | 'leaseEpoch'>,
  nowMs: number,
  steadyMs = nowMs,
): boolean {
  const shard = shardOfQueueId(job.queueId);
  if (job.leaseEpoch !== Atomics.load(gauges, leaseEpochOf(shard))) return false;
  // The times are kept modulo 2³², so only their difference counts.
  const left = Atomics.load(gauges, leasesSteadyUntilOf(shard)) - Math.floor(steadyMs / LEASE_UNIT_MS);
  if ((left | 0) <= 0) return false;
  return nowMs - madeAtMs(gauges) < Atomics.load(gauges, leasesUntilOf(shard)) * LEASE_UNIT_MS;
}

const madeAtMs = (gauges: Gauges): number => (gauges[GAUGE.madeAtS] as number) * 1000;
