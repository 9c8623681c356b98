/**
 * Numbers that threads share, so that each is known where it is needed without a message between threads: an Int32Array
 * over a SharedArrayBuffer, changed with Atomics only.
 */
import { MAX_SHARDS } from '../mail/queue-id.ts';

export const GAUGE = {
  /** Messages between end of data and their commit. */
  inflightMails: 0,
  /** PRESSURE that the main thread measured last. */
  pressure: 1,
  /** 1 while the relay drains: new transactions get 421 4.3.2. */
  draining: 2,
  /** 1 once there has been pressure for overload_hold_ms, as long as it lasts: new connections get 421 4.3.2. */
  overloaded: 3,
  /** One bit for each shard that takes new mail. */
  usableShards: 4,
  /** When these gauges were made, in seconds since 1970. */
  madeAtS: 5,
  /** Dialogs, with clients and with next hops, that an error of ours ended. */
  sessionFaults: 6,
  deliveryFaults: 7,
  /** From here on there are three for each shard: see leaseEpochOf, leasesUntilOf, leasesSteadyUntilOf. */
  leases: 8,
} as const;

/**
 * Gauge that counts how often our leases on the shard lapsed: jobs of an earlier count may be another node's by now.
 * @param shard 0…31, as queue ids name it.
 */
export const leaseEpochOf = (shard: number): number => GAUGE.leases + 3 * shard;
/** Gauge of the time until which every lease on the shard holds, in LEASE_UNIT_MS since `madeAtS`. */
export const leasesUntilOf = (shard: number): number => GAUGE.leases + 3 * shard + 1;
/** The same in steady time (base/steady.ts), in LEASE_UNIT_MS, so that a clock that is set back prolongs no lease. */
export const leasesSteadyUntilOf = (shard: number): number => GAUGE.leases + 3 * shard + 2;

/** Gauge that counts work beside the mail that an error of ours ended (base/aside.ts). */
export const ASIDE_FAULTS = leasesSteadyUntilOf(MAX_SHARDS - 1) + 1;
const COUNTERS = ASIDE_FAULTS + 1;

/** Fine enough for leases of a second, coarse enough that 32 bits last for years. */
export const LEASE_UNIT_MS = 64;

export const PRESSURE = {
  none: 0,
  memory: 1,
  disk: 2,
  database: 3,
  content_memory: 4,
  messages: 5,
  journal: 6,
  queue_file: 7,
} as const;

export type Gauges = Int32Array<SharedArrayBuffer>;

export function createGauges(): Gauges {
  const gauges = new Int32Array(new SharedArrayBuffer(COUNTERS * 4));
  gauges[GAUGE.madeAtS] = Math.floor(Date.now() / 1000);
  gauges[GAUGE.usableShards] = 1;
  return gauges;
}
