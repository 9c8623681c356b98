/**
 * Builds what decides when mail is sent: the leases of rows being sent, the scheduler, and the look for due work that
 * others left. Part of the composition root.
 */
import type { Gauges } from './admission/gauges.ts';
import type { Log } from './base/log.ts';
import type { Config } from './config/schema.ts';
import type { DestinationBacklog, LeasedKey } from './database/database.ts';
import type { Job } from './mail/job.ts';
import type { Arena } from './native.ts';
import type { RelayDatabase } from './relay-database.ts';
import { DuePoll } from './scheduler/due-poll.ts';
import { EmbeddedScheduler } from './scheduler/embedded.ts';
import { Leases } from './scheduler/leases.ts';

export interface SchedulingSetup {
  config: Config;
  queue: RelayDatabase;
  arena: Arena;
  gauges: Gauges;
  log: Log;
  deliver(jobs: Job[]): void;
}

export interface Scheduling {
  leases: Leases;
  scheduler: EmbeddedScheduler;
  duePoll: DuePoll;
}

export function openScheduling(setup: SchedulingSetup): Scheduling {
  const leases = createLeases(setup);
  const scheduler = createScheduler(setup, leases);
  return { leases, scheduler, duePoll: createDuePoll(setup, leases, scheduler) };
}

function createLeases({ config, queue: { database }, arena, gauges, log }: SchedulingSetup): Leases {
  const ports = {
    renew: (rows: LeasedKey[], leaseUntilMs: number) => database.renew(rows, leaseUntilMs),
    release: (content: number) => arena.release(content),
    now: Date.now,
    onLapse: (held: number) => log.warn('leases.lapsed', { held }),
    onRenewError: (error: unknown) => log.warn('leases.renew-failed', { error }),
  };
  return new Leases(ports, gauges, config.lease_ms);
}

function createScheduler(
  { config: { delivery }, queue, arena, log, deliver }: SchedulingSetup,
  leases: Leases,
): EmbeddedScheduler {
  return new EmbeddedScheduler(
    {
      claim: (destination, limit) =>
        leases.claim(destination, limit, (request) => queue.database.claim(request)),
      deliver,
      chunkCount: arena.chunkCount,
      freeChunks: () => arena.freeChunks(),
      now: Date.now,
      setTimer(atMs, fire) {
        const timer = setTimeout(fire, Math.min(Math.max(0, atMs - Date.now()), 2 ** 31 - 1)).unref();
        return { cancel: () => clearTimeout(timer) };
      },
    },
    {
      maxInFlight: delivery.max_handoff_mails,
      enabled: delivery.enabled,
      ...queue.claims,
      onClaimError: (destination, error) => log.warn('scheduler.claim-failed', { destination, error }),
    },
  );
}

/** With sqlite nobody else puts rows there: only a lease this process lost track of can come up. */
function createDuePoll(
  { config: { lease_ms, scheduler: settings }, queue, log }: SchedulingSetup,
  leases: Leases,
  scheduler: EmbeddedScheduler,
): DuePoll {
  const due = async (nowMs: number): Promise<DestinationBacklog[]> => {
    if (queue.shards === null) await leases.look();
    return queue.database.due(nowMs);
  };
  const ports = {
    due,
    discovered: (found: DestinationBacklog[]) => scheduler.discover(found),
    onError: (error: unknown) => log.debug('scheduler.poll-failed', { error }),
    now: Date.now,
  };
  return new DuePoll(ports, queue.shards === null ? lease_ms / 2 : settings.poll_interval_ms);
}
