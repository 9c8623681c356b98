/**
 * Builds what decides when mail is sent: the leases of rows being sent, the scheduler, and the poll for due work that
 * other nodes left. Part of the composition root.
 */
import type { Gauges } from '../admission/gauges.ts';
import type { Log } from '../base/log.ts';
import { accessOf } from '../base/redis-options.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { ClaimRequest, Database, DestinationBacklog, LeasedKey } from '../database/database.ts';
import type { ShardedDatabase } from '../database/sharded-database.ts';
import type { Job } from '../mail/job.ts';
import type { Arena } from '../native.ts';
import type { Agenda } from '../scheduler/agenda.ts';
import { ClusterScheduler } from '../scheduler/cluster.ts';
import { type ConnectionGrant, ConnectionShares } from '../scheduler/connections.ts';
import { DuePoll } from '../scheduler/due-poll.ts';
import { EmbeddedScheduler, type EmbeddedSchedulerOptions } from '../scheduler/embedded.ts';
import { Leases } from '../scheduler/leases.ts';
import type { SharedParts } from '../scheduler/parts.ts';
import { DestinationRates, type SharedRates } from '../scheduler/rates.ts';
import type { Scheduler, SchedulerPorts } from '../scheduler/scheduler.ts';
import type { SharedNews } from '../scheduler/shared-news.ts';
import { Suspects } from '../scheduler/suspects.ts';
import type { RelayDatabase } from './database.ts';
import { AGE_MARGIN_MS } from './suspensions.ts';
import { rowsBack, TAKEN_BACK_MS } from './undelivered.ts';

export interface SchedulingSetup {
  /** null with the embedded scheduler. */
  agenda: ClusterAgenda | null;
  config: Config;
  /** The config as of now. Whatever can change live is read from it each time. */
  settings(): Config;
  queue: RelayDatabase;
  arena: Arena;
  gauges: Gauges;
  log: Log;
  deliver(jobs: Job[]): void;
  /** Whether a rule of an operator holds the destination. */
  held(destination: string): boolean;
  grantConnections(grants: ConnectionGrant[]): void;
  /** What the limits of a site let through soon. */
  outlook: NonNullable<SchedulerPorts['outlook']>;
}

export interface Scheduling {
  leases: Leases;
  scheduler: Scheduler;
  duePoll: DuePoll;
  /** Shares the connections to a destination out between all nodes; null without such a limit. */
  connections: ConnectionShares | null;
}

export type ClusterAgenda = Agenda & SharedRates & SharedParts & SharedNews;

/** Other nodes forget a process when its leases have ended, but not before this time. */
const MIN_FORGET_MS = 10_000;

/** What the nodes share in Redis; null with the embedded scheduler, which needs neither BullMQ nor its memory. */
export async function openAgenda(config: Config, log: Log): Promise<ClusterAgenda | null> {
  const { engine, redis } = config.scheduler;
  if (engine === 'embedded') return null;
  const { BullmqAgenda } = await import('../scheduler/bullmq-agenda.ts');
  return new BullmqAgenda({
    ...accessOf(redis),
    forgetMs: Math.max(MIN_FORGET_MS, config.lease_ms),
    minProcesses: redis.min_processes,
    name: config.node_id,
    works: config.delivery.enabled,
    log,
  });
}

export function openScheduling(setup: SchedulingSetup): Scheduling {
  const leases = createLeases(setup);
  return setup.agenda === null ? embedded(setup, leases) : cluster(setup, setup.agenda, leases);
}

/** Builds what sends rows alone that are suspected of ending the process. */
export function openSuspects(database: Database, deliver: (jobs: Job[]) => void, log: Log): Suspects {
  return new Suspects({
    deliver,
    mark: (rows) => database.markSuspects(rows),
    onMarkError: (error) => log.warn('poison.not_marked', { error }),
  });
}

function embedded(setup: SchedulingSetup, leases: Leases): Scheduling {
  const { config, queue } = setup;
  const scheduler = new EmbeddedScheduler(
    {
      ...portsOf(setup),
      claim: (destination, limit) =>
        leases.claim(destination, limit, (request) => queue.database.claim(claimOf(setup, request))),
    },
    optionsOf(setup),
  );
  // With sqlite nobody else adds rows: the poll can only find leases that this process lost track of.
  const intervalMs = queue.shards === null ? config.lease_ms / 2 : config.scheduler.poll_interval_ms;
  return {
    leases,
    scheduler,
    connections: null,
    duePoll: createDuePoll(setup, leases, scheduler, () => intervalMs),
  };
}

function cluster(setup: SchedulingSetup, agenda: ClusterAgenda, leases: Leases): Scheduling {
  const { queue } = setup;
  const { poll_interval_ms, redis } = setup.config.scheduler;
  const shards = queue.shards as ShardedDatabase;
  const scheduler: ClusterScheduler = new ClusterScheduler(
    {
      ...portsOf(setup),
      claim: (destination, limit, mask) =>
        leases.claim(destination, limit, (request) =>
          shards.claim({ ...claimOf(setup, request), shards: mask }),
        ),
      backlogByShard: () => shards.backlogByShard(),
    },
    {
      ...optionsOf(setup),
      shardIds: queue.shardIds,
      reconcileIntervalMs: redis.reconcile_interval_ms,
      pollIntervalMs: poll_interval_ms,
      onPollFaster: () => duePoll.hurry(),
    },
    agenda,
  );
  const duePoll = createDuePoll(setup, leases, scheduler, () => scheduler.pollIntervalMs());
  const limit = setup.config.delivery.max_cluster_connections_per_destination;
  const grant = (grants: ConnectionGrant[]): void => setup.grantConnections(grants);
  const connections =
    limit === 0 ? null : new ConnectionShares({ limit, shared: agenda, grant, now: steadyMs, setTimer });
  return { leases, scheduler, duePoll, connections };
}

function createLeases({ config, queue: { database }, arena, gauges, log }: SchedulingSetup): Leases {
  const ports = {
    renew: (rows: LeasedKey[], leaseUntilMs: number) => database.renew(rows, leaseUntilMs),
    release: (content: number) => arena.release(content),
    // Should this fail, the rows become due again when their leases end.
    giveBack: (jobs: Job[]) =>
      void database.release(rowsBack(jobs), Date.now() + TAKEN_BACK_MS).catch(() => {}),
    now: Date.now,
    steady: steadyMs,
    onLapse: (held: number) => log.warn('leases.lapsed', { entries: held }),
    onRenewError: (error: unknown) => log.warn('leases.renew_failed', { error }),
  };
  return new Leases(ports, gauges, config.lease_ms);
}

/** Of a destination that a rule holds only messages are claimed that are too old to be sent, so that they come to their end. */
function claimOf({ held, settings }: SchedulingSetup, request: ClaimRequest): ClaimRequest {
  if (!held(request.destination)) return request;
  return { ...request, receivedBeforeMs: request.nowMs - settings().retry.max_age_ms - AGE_MARGIN_MS };
}

function portsOf({
  settings,
  agenda,
  arena,
  deliver,
  held,
  outlook,
}: SchedulingSetup): Omit<SchedulerPorts, 'claim'> {
  return {
    deliver,
    held,
    outlook,
    contentBytes: arena.totalBytes,
    freeContentBytes: () => arena.freeBytes(),
    now: Date.now,
    steady: steadyMs,
    setTimer,
    rates: new DestinationRates({
      perSecond: () => settings().delivery.max_messages_per_destination_per_s,
      now: steadyMs,
      shared: agenda,
    }),
  };
}

function setTimer(atMs: number, fire: () => void): { cancel(): void } {
  const timer = setTimeout(fire, Math.min(Math.max(0, atMs - steadyMs()), 2 ** 31 - 1)).unref();
  return { cancel: () => clearTimeout(timer) };
}

function optionsOf({ config: { delivery }, queue, log }: SchedulingSetup): EmbeddedSchedulerOptions {
  return {
    maxInFlight: delivery.max_handoff_messages,
    enabled: delivery.enabled,
    isShared: queue.shards !== null,
    ...queue.claims,
    onClaimError: (destination, error) => log.warn('scheduler.claim_failed', { destination, error }),
  };
}

function createDuePoll(
  { queue, log }: SchedulingSetup,
  leases: Leases,
  scheduler: Scheduler,
  intervalMs: () => number,
): DuePoll {
  const due = async (nowMs: number): Promise<DestinationBacklog[]> => {
    if (queue.shards === null) await leases.look();
    return queue.database.due(nowMs);
  };
  const ports = {
    due,
    discovered: (found: DestinationBacklog[]) => scheduler.discover(found),
    onError: (error: unknown) => log.debug('scheduler.poll_failed', { error }),
    now: Date.now,
    steady: steadyMs,
  };
  return new DuePoll(ports, intervalMs);
}
