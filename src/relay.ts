/**
 * Composition root of one relay process: builds the stages in the mail's order and wires them; starts, drains,
 * stops. It holds no rule about mail: those are in the stages.
 *
 *   session threads → group commit → (250) → scheduler → delivery threads → group commit (settlement) → events
 */
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createGauges, GAUGE, type Gauges } from './admission/gauges.ts';
import { PressureGauge } from './admission/pressure.ts';
import { type DataDirLock, lockDataDir } from './base/data-dir.ts';
import { RelayError } from './base/errors.ts';
import type { Log } from './base/log.ts';
import { planReload } from './config/reload.ts';
import type { Config } from './config/schema.ts';
import type { ControlTarget } from './control/protocol.ts';
import type { OperateAction, OperateTarget, OutboxPlan } from './database/database.ts';
import { DeliveryThreads } from './delivery/delivery-threads.ts';
import { type ConnectionCounts, LocalCounts } from './listener/connection-counts.ts';
import { Listener } from './listener/listener.ts';
import type { GivenSocket, ListeningAddress } from './listener/sockets.ts';
import type { RouteTable } from './mail/destination.ts';
import type { AttemptResult } from './mail/job.ts';
import type { Message } from './mail/message.ts';
import { queueIdTimeMs } from './mail/queue-id.ts';
import { type Arena, createArena, listen, reactorConnections } from './native.ts';
import { DatabaseClient, startPool } from './persistence/database-client.ts';
import { type Entry, type EntryOutcome, GroupCommit, type SettleItem } from './persistence/group-commit.ts';
import { jobOf, planMessage } from './persistence/plan.ts';
import { toSettlement } from './persistence/to-settlement.ts';
import { EventLog, eventLogOptions } from './report/events.ts';
import { EmbeddedScheduler } from './scheduler/embedded.ts';
import { VERDICT } from './session/messages.ts';
import { SessionThreads } from './session/session-threads.ts';

/** Recipients of all rows of one claim: bounds what one postMessage carries. */
const CLAIM_RECIPIENTS = 20_000;
/** Mails purged in one transaction: a bounded pause for new mail. */
const PURGE_MAILS = 500;
const MIB = 1_048_576;
const COMMIT_RETRY_MS = 500;
/** Threads of one process that make queue ids, at most: 64 for sessions, 64 for delivery. */
const ORIGINS_PER_PROCESS = 128;

export interface RelayOptions {
  config: Config;
  configPath: string;
  log: Log;
  version: string;
  /** Where this relay process stands among those of the host; default: it is the only one. */
  place?: ProcessPlace;
}

export interface ProcessPlace {
  /** Makes queue ids unique over the processes of the host. */
  process: number;
  /** Delivery events of all processes lie in one folder. */
  eventsDir: string;
  /** Listening sockets opened elsewhere, of this process and of those it stands in for. */
  sockets: readonly GivenSocket[];
  counts: ConnectionCounts;
  /** false: only delivers what its queue holds. */
  accepts: boolean;
}

/** @throws RelayError when a stage cannot start; what was started is stopped again. */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const lock = lockDataDir(options.config.data_dir, 'queue');
  const relay = new Relay(options, lock);
  try {
    await relay.start();
    return relay;
  } catch (error) {
    await relay.stop().catch(() => {}); // the error that matters is the one that kept us from starting
    throw error;
  }
}

export class Relay {
  addresses: ListeningAddress[] = [];
  readonly control: ControlTarget;
  #config: Config;
  readonly #log: Log;
  readonly #lock: DataDirLock;
  readonly #place: ProcessPlace;
  readonly #arena: Arena;
  readonly #gauges: Gauges = createGauges();
  readonly #routes: RouteTable;
  readonly #database: DatabaseClient;
  readonly #commits: GroupCommit;
  readonly #scheduler: EmbeddedScheduler;
  readonly #sessions: SessionThreads;
  readonly #deliveries: DeliveryThreads;
  readonly #events: EventLog;
  readonly #pressure: PressureGauge;
  #listener: Listener | null = null;
  #purgeTimer: NodeJS.Timeout | null = null;
  /** Acknowledged in memory, refused by the database so far. */
  readonly #retries: Entry[] = [];
  #retryTimer: NodeJS.Timeout | null = null;
  #draining: Promise<void> | null = null;

  constructor({ config, log, place }: RelayOptions, lock: DataDirLock) {
    const eventsDir = join(config.data_dir, 'events');
    this.#place = place ?? { process: 0, eventsDir, sockets: [], counts: new LocalCounts(), accepts: true };
    this.#config = config;
    this.#log = log;
    this.#lock = lock;
    const spillDir = join(config.data_dir, 'spill');
    mkdirSync(spillDir, { recursive: true, mode: 0o700 });
    this.#arena = createArena(config.content_memory_mb * MIB, spillDir);
    this.#routes = {
      smarthost: config.delivery.smarthost !== undefined,
      routed: new Set(Object.keys(config.delivery.routes)),
    };
    this.#database = new DatabaseClient(startPool({ config, arena: this.#arena.buffer, spillDir }));
    this.#events = new EventLog({
      ...eventLogOptions(config, this.#place.eventsDir, this.#place.process),
      log,
    });
    this.#scheduler = this.#createScheduler();
    this.#commits = this.#createGroupCommit();
    this.#sessions = new SessionThreads({
      messages: (thread, messages, tickets) => this.#submit(thread, messages, tickets),
      closedPeers: (peers) => this.#listener?.closedPeers(peers),
      failed: (error) => this.#threadFailed(error),
    });
    this.#deliveries = new DeliveryThreads({
      results: (results) => this.#settle(results),
      destination: (destination, untilMs, reason) => this.#suspended(destination, untilMs, reason),
      failed: (error) => this.#threadFailed(error),
    });
    this.#pressure = new PressureGauge({
      config,
      gauges: this.#gauges,
      arena: this.#arena,
      log,
      commitAgeMs: () => this.#commits.stats().commitAgeMs,
      databaseFailing: () => this.#commits.stats().failing,
      mails: () => this.#database.mails,
    });
    this.control = this.#createControl();
  }

  async start(): Promise<void> {
    const config = this.#config;
    const recovered = await this.#database.recover(Date.now());
    const { newestQueueId } = recovered;
    this.#log.info('relay.recovered', { ...recovered });
    if (config.database.path === ':memory:')
      this.#log.warn('relay.in-memory', { advice: 'a restart loses all mail; for throw-away relays only' });
    const notBeforeMs = newestQueueId === null ? 0 : queueIdTimeMs(newestQueueId) + 1;
    const shared = { config, arena: this.#arena.buffer, notBeforeMs };
    const { process, accepts } = this.#place;
    const firstOrigin = process * ORIGINS_PER_PROCESS;
    const sessionThreads = accepts ? threadCount(config.session_threads) : 0;
    await this.#sessions.start(
      Array.from({ length: sessionThreads }, (_, thread) => ({
        ...shared,
        origin: firstOrigin + thread,
        gauges: this.#gauges.buffer,
      })),
    );
    if (accepts) await this.#listen();
    const ownListeners = this.addresses.flatMap(({ host, port }) =>
      host === undefined || port === undefined ? [] : [{ address: host, port }],
    );
    await this.#deliveries.start(
      Array.from({ length: threadCount(config.delivery_threads) }, (_, thread) => ({
        ...shared,
        origin: firstOrigin + sessionThreads + thread,
        ownListeners,
      })),
    );
    this.#scheduler.rebuild(await this.#database.backlog());
    this.#scheduler.start();
    this.#pressure.start();
    this.#purgeLater();
    this.#listener?.resume();
  }

  async #listen(): Promise<void> {
    const { process, sockets, counts } = this.#place;
    const ports = { listen, reactorConnections, now: Date.now };
    const { reactorIds } = this.#sessions;
    this.#listener = new Listener(this.#config, reactorIds, this.#gauges, this.#log, ports, counts);
    const own = sockets.filter((socket) => socket.process === null || socket.process === process);
    this.addresses = await this.#listener.start(own);
    // Until mail can go its way, connections wait in the kernel.
    this.#listener.pause();
  }

  /** What the queue holds: mail that waits, settled mail that is kept for inspection, or nothing. */
  async remains(): Promise<'waiting' | 'settled' | 'nothing'> {
    const { PENDING, SENDING, RETRY, HELD } = (await this.#database.stats()).rows;
    if (PENDING + SENDING + RETRY + HELD > 0) return 'waiting';
    while ((await this.#database.purge(Date.now(), PURGE_MAILS)) >= PURGE_MAILS);
    const { mails } = await this.#database.stats();
    return mails === 0 ? 'nothing' : 'settled';
  }

  /** Accepts also on the sockets of these relay processes, and of no others any more. */
  standInFor(processes: readonly number[]): void {
    const { sockets } = this.#place;
    this.#listener?.standIn(sockets.filter(({ process }) => process !== null && processes.includes(process)));
  }

  /** Open inbound connections of this process. */
  get connections(): number {
    return this.#place.counts.open;
  }

  /** No new mail; open transactions and deliveries on the wire are finished, and what they brought is durable. */
  drain(): Promise<void> {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  async #drain(): Promise<void> {
    Atomics.store(this.#gauges, GAUGE.draining, 1);
    this.#listener?.close();
    this.#scheduler.stop();
    // Sessions first: their last messages still want a commit, and may still go out.
    await this.#sessions.drain();
    await this.#commits.drain();
    const unfinished = await this.#deliveries.drain();
    await this.#commits.drain();
    await this.#release(unfinished);
  }

  /** Jobs never begun go back to the queue, due at once. */
  async #release(
    jobs: { queueId: string; destination: string; fence: number; content: number }[],
  ): Promise<void> {
    if (jobs.length === 0) return;
    for (const { content } of jobs) this.#arena.release(content);
    const rows = jobs.map(({ queueId, destination, fence }) => ({
      queueId,
      destination,
      fence,
      reason: 'shutdown',
    }));
    await this.#database.release(rows, Date.now());
  }

  /** Ends now. What is not durable yet is not acknowledged yet; rows being sent are recovered at the next start. */
  async stop(): Promise<void> {
    this.#listener?.close();
    this.#scheduler.stop();
    this.#pressure.stop();
    if (this.#purgeTimer) clearTimeout(this.#purgeTimer);
    await Promise.all([this.#sessions.stop(), this.#deliveries.stop()]);
    await this.#database.close().catch((error) => this.#log.warn('database.close-failed', { error }));
    await this.#events.close();
    this.#lock.release();
  }

  reload(next: Config): { applied: string[]; needsRestart: string[] } {
    const { config, applied, needsRestart } = planReload(this.#config, next);
    this.#config = config;
    this.#listener?.reconfigure(config);
    this.#pressure.reconfigure(config);
    this.#sessions.postAll({ type: 'config', config });
    this.#deliveries.postAll({ type: 'config', config });
    return { applied, needsRestart };
  }

  reopenLog(): void {
    this.#events.reopen();
    this.#sessions.postAll({ type: 'reopen-log' });
    this.#deliveries.postAll({ type: 'reopen-log' });
  }

  #createScheduler(): EmbeddedScheduler {
    const { delivery, lease_ms } = this.#config;
    return new EmbeddedScheduler(
      {
        claim: (destination, limit) => {
          const nowMs = Date.now();
          const leaseUntilMs = nowMs + lease_ms;
          return this.#database.claim({
            destination,
            limit,
            maxRecipients: CLAIM_RECIPIENTS,
            nowMs,
            leaseUntilMs,
          });
        },
        deliver: (jobs) => this.#deliveries.deliver(jobs),
        now: Date.now,
        setTimer(atMs, fire) {
          const timer = setTimeout(fire, Math.min(Math.max(0, atMs - Date.now()), 2 ** 31 - 1)).unref();
          return { cancel: () => clearTimeout(timer) };
        },
      },
      {
        maxInFlight: delivery.max_handoff_mails,
        enabled: delivery.enabled,
        onClaimError: (destination, error) =>
          this.#log.warn('scheduler.claim-failed', { destination, error }),
      },
    );
  }

  #createGroupCommit(): GroupCommit {
    const ports = {
      plan: (entry: Entry) => planMessage(entry, this.#routes, this.#scheduler),
      committed: (entries: Entry[], outcomes: EntryOutcome[]) => {
        for (let i = 0; i < entries.length; i++)
          this.#committed(entries[i] as Entry, outcomes[i] as EntryOutcome);
      },
      failed: (entries: Entry[], error: RelayError) => {
        for (const entry of entries) this.#failed(entry, error);
      },
      settled: (items: SettleItem[], accepted: boolean[]) => {
        for (let i = 0; i < items.length; i++) this.#settled(items[i] as SettleItem, accepted[i] === true);
      },
    };
    return new GroupCommit(this.#database, ports, { arena: this.#arena, leaseMs: this.#config.lease_ms });
  }

  /** Complete messages from a session thread: into the next commit. */
  #submit(thread: number, messages: Message[], tickets: number[]): void {
    this.#commits.submit(
      messages.map((message, i) => ({ message, plan: [], thread, ticket: tickets[i] as number })),
    );
  }

  #committed(entry: Entry, outcome: EntryOutcome): void {
    this.#leave(entry);
    const { message, plan, thread, ticket } = entry;
    if (outcome !== 'committed') {
      this.#cancel(plan);
      this.#arena.release(message.content);
      return;
    }
    this.#sessions.verdict(thread, ticket, VERDICT.committed);
    this.#events.accepted(message);
    // One reference came with the message; every job has its own.
    for (const row of plan) {
      if (row.state === 'SENDING') {
        this.#arena.retain(message.content);
        this.#scheduler.handOff(jobOf(message, row));
      } else if (row.state === 'PENDING') this.#scheduler.waiting(row.destination, 1, Date.now());
    }
    this.#arena.release(message.content);
  }

  #failed(entry: Entry, error: RelayError): void {
    this.#cancel(entry.plan);
    if (entry.ticket < 0) {
      this.#commitLater(entry, error);
      return;
    }
    this.#leave(entry);
    this.#sessions.verdict(entry.thread, entry.ticket, verdictOf(error));
    this.#arena.release(entry.message.content);
  }

  /**
   * after_enqueue: the client has its 250, so the message is tried until it is durable. It keeps its share of
   * persist_max_inflight_mails meanwhile, which is what stops more from coming in.
   */
  #commitLater(entry: Entry, error: RelayError): void {
    this.#log.warn('commit.retrying', { queue_id: entry.message.queueId, error: error.message });
    entry.plan = [];
    this.#retries.push(entry);
    this.#retryTimer ??= setTimeout(() => {
      this.#retryTimer = null;
      this.#commits.submit(this.#retries.splice(0));
    }, COMMIT_RETRY_MS);
  }

  /** The message is no longer between end of data and commit. Our own DSNs (thread −1) were never counted in. */
  #leave(entry: Entry): void {
    if (entry.thread >= 0) Atomics.sub(this.#gauges, GAUGE.inflightMails, 1);
  }

  #cancel(plan: OutboxPlan[]): void {
    for (const row of plan)
      if (row.state === 'SENDING') this.#scheduler.cancel(row.destination, row.seqs.length);
  }

  /** Outcomes of attempts: into the next commit, with the DSNs they call for. */
  #settle(results: AttemptResult[]): void {
    this.#commits.settle(
      results.map((result) => ({
        settlement: toSettlement(result),
        result,
        dsns: result.dsns.map((message) => ({ message, plan: [], thread: -1, ticket: -1 })),
      })),
    );
  }

  #settled({ settlement, result }: SettleItem, accepted: boolean): void {
    if (accepted) this.#events.attempt(result);
    else
      this.#log.warn('settlement.rejected', {
        queue_id: result.queueId,
        destination: result.destination,
        fence: result.fence,
        advice: 'another lease of the row is newer; its result counts',
      });
    this.#scheduler.settled(result, accepted ? settlement.retryAtMs : null);
  }

  #suspended(destination: string, untilMs: number, reason: string): void {
    this.#scheduler.suspend(destination, untilMs);
    this.#log.info(untilMs > Date.now() ? 'destination.suspended' : 'destination.resumed', {
      destination,
      until: new Date(untilMs).toISOString(),
      reason,
    });
  }

  /** Our own fault: what the thread had open is unknown, so the process ends and recovery sorts it out. */
  #threadFailed(error: Error): void {
    throw error;
  }

  #purgeLater(): void {
    this.#purgeTimer = setTimeout(() => void this.#purge(), this.#config.queue.purge_interval_ms).unref();
  }

  async #purge(): Promise<void> {
    try {
      while (this.#draining === null && (await this.#database.purge(Date.now(), PURGE_MAILS)) >= PURGE_MAILS);
    } catch (error) {
      this.#log.warn('queue.purge-failed', { error });
    }
    if (this.#draining === null) this.#purgeLater();
  }

  #createControl(): ControlTarget {
    const database = this.#database;
    return {
      list: (filter) => database.list(filter),
      show: (queueId) => database.show(queueId),
      content: (queueId, offset, maxBytes) => database.content(queueId, offset, maxBytes),
      stats: () => database.stats(),
      schedulerStats: () => this.#scheduler.stats(),
      operate: (action, target) => this.#operate(action, target),
    };
  }

  async #operate(action: OperateAction, target: OperateTarget): Promise<{ rows: number }> {
    const { rows, destinations, removed } = await this.#database.operate(action, target, Date.now());
    for (const { queueId, recipients } of removed) this.#events.removed(queueId, recipients, 'operator');
    // An operator who asks for a retry means now, whatever the destination did lately.
    if (action === 'retry')
      for (const { destination } of destinations) this.#scheduler.suspend(destination, 0);
    this.#scheduler.refresh(destinations);
    return { rows };
  }
}

/** 'auto' is half the cores: sessions and delivery share the machine with each other, the writer and the kernel. */
function threadCount(configured: number | 'auto'): number {
  return configured === 'auto' ? Math.max(1, Math.floor(availableParallelism() / 2)) : configured;
}

function verdictOf(error: unknown): number {
  if (!(error instanceof RelayError)) return VERDICT.failed;
  if (error.code === 'database-full' || error.code === 'storage-full') return VERDICT.full;
  return error.temporary ? VERDICT.unavailable : VERDICT.failed;
}
