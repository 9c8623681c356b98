/**
 * Rates of destinations: how many messages a second may go to each. Tokens are leased from the agenda, which all nodes
 * share, a block at a time, and spent here without asking. While the agenda cannot be reached, this process keeps to
 * its equal share of the rate. Without an agenda, it has the whole rate.
 */
import { isFailKey } from '../mail/operator-keys.ts';
import type { Rates } from './scheduler.ts';

/** The part of the agenda from which all nodes lease tokens. */
export interface SharedRates {
  readonly up: boolean;
  /**
   * Number of processes that share the rate, and how many of them are silent: they do not lease, but may be sending.
   */
  members(): { all: number; silent: number };
  /** @returns how many of `wanted` tokens are ours. */
  leaseTokens(destination: string, perSecond: number, size: number, wanted: number): Promise<number>;
}

export interface DestinationRatesPorts {
  /** The limit; 0: none. Asked each time, because a reload may change it. */
  perSecond(): number;
  now(): number;
  /** null: this process has the whole rate. */
  shared: SharedRates | null;
}

/** A block is the number of tokens that the rate allows in this time. */
const BLOCK_S = 0.25;
/** Leased tokens that were not spent lapse: unspent blocks must not add up to a burst. */
const LAPSE_MS = 1000;
/** Pause after an answer with fewer tokens than wanted, and after a question that failed. */
const ASK_MS = 20;
const FAILED_MS = 200;
/**
 * With more destinations than this, those that were idle for IDLE_MS are dropped: a new bucket is as full as theirs.
 */
const MANY_DESTINATIONS = 10_000;
const IDLE_MS = 2000;

interface Bucket {
  tokens: number;
  /** Own share: up to when the bucket was filled. Leased: when its last block came. */
  atMs: number;
  usedMs: number;
  asking: boolean;
  askAtMs: number;
}

export class DestinationRates implements Rates {
  readonly #ports: DestinationRatesPorts;
  readonly #buckets = new Map<string, Bucket>();

  constructor(ports: DestinationRatesPorts) {
    this.#ports = ports;
  }

  take(destination: string, wanted: number): number {
    const rate = this.#ports.perSecond();
    // Nothing is sent to where an operator ends mail.
    if (rate === 0 || isFailKey(destination)) return wanted;
    const { shared } = this.#ports;
    const nowMs = this.#ports.now();
    const bucket = this.#bucket(destination, nowMs);
    bucket.usedMs = nowMs;
    const leased = shared?.up === true;
    if (leased) {
      if (nowMs - bucket.atMs > LAPSE_MS) bucket.tokens = 0;
    } else this.#fill(bucket, rate, nowMs);
    const taken = Math.min(wanted, Math.floor(bucket.tokens));
    bucket.tokens -= taken;
    if (leased && taken < wanted) this.#ask(shared, destination, bucket, rate, nowMs);
    return taken;
  }

  giveBack(destination: string, count: number): void {
    const bucket = this.#buckets.get(destination);
    if (bucket !== undefined && count > 0) bucket.tokens += count;
  }

  #bucket(destination: string, nowMs: number): Bucket {
    let bucket = this.#buckets.get(destination);
    if (bucket === undefined) {
      if (this.#buckets.size >= MANY_DESTINATIONS) this.#forget(nowMs);
      bucket = { tokens: 0, atMs: 0, usedMs: nowMs, asking: false, askAtMs: 0 };
      this.#buckets.set(destination, bucket);
    }
    return bucket;
  }

  #forget(nowMs: number): void {
    for (const [destination, { usedMs, asking }] of this.#buckets)
      if (!asking && nowMs - usedMs > IDLE_MS) this.#buckets.delete(destination);
  }

  /** Fills the bucket by this process's own share: the rate divided by the number of processes that may be sending. */
  #fill(bucket: Bucket, rate: number, nowMs: number): void {
    const share = rate / (this.#ports.shared?.members().all ?? 1);
    const size = Math.max(1, share * BLOCK_S);
    bucket.tokens = Math.min(size, bucket.tokens + (share * Math.max(0, nowMs - bucket.atMs)) / 1000);
    bucket.atMs = nowMs;
  }

  #ask(shared: SharedRates, destination: string, bucket: Bucket, rate: number, nowMs: number): void {
    if (bucket.asking || nowMs < bucket.askAtMs) return;
    bucket.asking = true;
    const { all, silent } = shared.members();
    // Silent processes may send their share without asking, so it is taken off the rate.
    const leasable = (rate * Math.max(1, all - silent)) / all;
    const wanted = Math.max(1, Math.ceil((leasable * BLOCK_S) / Math.max(1, all - silent)));
    const answered = (granted: number, pauseMs: number): void => {
      bucket.asking = false;
      const atMs = this.#ports.now();
      bucket.tokens = Math.min(2 * wanted, bucket.tokens + granted);
      bucket.atMs = atMs;
      bucket.askAtMs = atMs + pauseMs;
    };
    void shared.leaseTokens(destination, leasable, Math.max(1, Math.ceil(leasable * BLOCK_S)), wanted).then(
      (granted) =>
        answered(granted, granted < wanted ? Math.max(ASK_MS, ((wanted - granted) / leasable) * 500) : 0),
      () => answered(0, FAILED_MS),
    );
  }
}
