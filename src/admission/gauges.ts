/**
 * Counters that threads share, so that what they say is known where it is needed without a message between threads:
 * an Int32Array over a SharedArrayBuffer, moved with Atomics only.
 */
import { MAX_SHARDS } from '../mail/queue-id.ts';

export const GAUGE = {
  /** Messages between end of data (or MAIL, which reserves) and their commit. */
  inflightMails: 0,
  /** PRESSURE code the main thread measured last (0: none): memory, disk, database. */
  pressure: 1,
  /** 1 while the relay drains: new transactions get 421 4.3.2. */
  draining: 2,
  /** 1 while pressure was sustained for overload_hold_ms: new connections get 421 4.3.2. */
  overloaded: 3,
  /** One bit for each shard that takes new mail. */
  usableShards: 4,
  /** When the counters were made, in seconds since 1970. */
  madeAtS: 5,
  /** Dialogs that an error of ours ended, of clients and with next hops. */
  sessionFaults: 6,
  deliveryFaults: 7,
  /** From here on three for each shard: how often its leases lapsed, and until when all that are held hold, by two clocks. */
  leases: 8,
} as const;

/**
 * Counts how often leases on the shard lapsed; jobs of an earlier count may be another node's by now.
 * @param shard 0…31, as queue ids name it.
 */
export const leaseEpochOf = (shard: number): number => GAUGE.leases + 3 * shard;
/** Until when every lease on the shard holds, in LEASE_UNIT_MS since the counters were made. */
export const leasesUntilOf = (shard: number): number => GAUGE.leases + 3 * shard + 1;
/** The same in steady time (base/steady.ts), in LEASE_UNIT_MS: a clock that is set back prolongs no lease. */
export const leasesSteadyUntilOf = (shard: number): number => GAUGE.leases + 3 * shard + 2;

/** Work beside the mail that an error of ours ended (base/aside.ts). */
export const ASIDE_FAULTS = leasesSteadyUntilOf(MAX_SHARDS - 1) + 1;
const COUNTERS = ASIDE_FAULTS + 1;

/** Fine enough for leases of a second, coarse enough that 32 bits last for years. */
export const LEASE_UNIT_MS = 64;

export const PRESSURE = {
  none: 0,
  memory: 1,
  disk: 2,
  database: 3,
  contentMemory: 4,
  messages: 5,
  journal: 6,
} as const;

export type Gauges = Int32Array<SharedArrayBuffer>;

export function createGauges(): Gauges {
  const gauges = new Int32Array(new SharedArrayBuffer(COUNTERS * 4));
  gauges[GAUGE.madeAtS] = Math.floor(Date.now() / 1000);
  gauges[GAUGE.usableShards] = 1;
  return gauges;
}
