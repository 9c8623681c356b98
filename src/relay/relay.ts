/**
 * Composition root of one relay process: builds the stages in the mail's order and wires them; starts, drains,
 * stops. It holds no rule about mail: those are in the stages.
 *
 *   session threads → group commit → (250) → scheduler → delivery threads → group commit (settlement) → events
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ASIDE_FAULTS, createGauges, GAUGE, type Gauges } from '../admission/gauges.ts';
import { PressureGauge } from '../admission/pressure.ts';
import { LoginDesk } from '../auth/login-desk.ts';
import { Aside } from '../base/aside.ts';
import { type DataDirLock, lockDataDir } from '../base/data-dir.ts';
import type { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import { within } from '../base/within.ts';
import { planReload } from '../config/reload.ts';
import type { Config } from '../config/schema.ts';
import type { ControlTarget } from '../control/protocol.ts';
import type { Database } from '../database/database.ts';
import { DeliveryThreads } from '../delivery/delivery-threads.ts';
import type { StsRefresh } from '../delivery/security/sts-refresh.ts';
import { Listener } from '../listener/listener.ts';
import type { ListeningAddress } from '../listener/sockets.ts';
import type { RouteTable } from '../mail/destination.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import { originOf, QueueIds, queueIdTimeMs } from '../mail/queue-id.ts';
import { type Arena, createArena, listen, reactorConnections } from '../native.ts';
import type { Entry, SettleItem } from '../persistence/entry.ts';
import { GroupCommit } from '../persistence/group-commit.ts';
import { Housekeeping } from '../persistence/housekeeping.ts';
import { ShardedCommits } from '../persistence/sharded-commits.ts';
import { toSettleItem } from '../persistence/to-settlement.ts';
import { Unsettled } from '../persistence/unsettled.ts';
import { policyMs } from '../policy/policy-time.ts';
import { EventLog, eventLogOptions } from '../report/events.ts';
import type { TlsReportSender } from '../report/tls-report-sender.ts';
import type { TlsReports } from '../report/tls-rpt.ts';
import type { DuePoll } from '../scheduler/due-poll.ts';
import type { Leases } from '../scheduler/leases.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { Suspects } from '../scheduler/suspects.ts';
import { faultsTo, intakeLog, loginLog, mailLog } from '../session/flood-log.ts';
import { SessionThreads } from '../session/session-threads.ts';
import { TlsContexts } from '../tls/tls-contexts.ts';
import { BegunFiles } from './begun.ts';
import { ReturnedContent } from './content.ts';
import { relayControl } from './control.ts';
import { openRelayDatabase, type RelayDatabase } from './database.ts';
import { commitAll, finishWork, type LastWork } from './drain.ts';
import { Intake } from './intake.ts';
import { openRelayJournal, pressurePorts, type RelayJournal } from './journal.ts';
import { logRejected, logSuspended, threadFailed } from './lines.ts';
import type { ProcessPlace, RelayOptions } from './place.ts';
import { gateOf, hostListeners, onlyPlace, ownSockets, threadCount } from './place.ts';
import { remainsOf } from './remains.ts';
import { type ClusterAgenda, openAgenda, openScheduling, openSuspects } from './scheduling.ts';
import { RelayShares } from './shares.ts';
import { openStsRefresh, stsDir } from './sts.ts';
import { openTlsReportSender, openTlsReports } from './tls-reports.ts';
import { releaseUndelivered, takeBack, type UndeliveredPorts, withdrawal } from './undelivered.ts';

const MIB = 1_048_576;
/** Part of shutdown_grace_ms kept for the last commits, at most; and what a stop without drain takes for them. */
const DRAIN_RESERVE_MS = 1000;
const LAST_COMMIT_MS = 1000;

/** @throws RelayError when a stage cannot start; what was started is stopped again. */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const agenda = await openAgenda(options.config, options.log);
  const lock = lockDataDir(options.config.data_dir, 'queue');
  const relay = new Relay(options, lock, agenda);
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
  readonly #shares: RelayShares;
  readonly #begun: BegunFiles;
  readonly #suspects: Suspects;
  readonly #unsettled: Unsettled;
  readonly #undelivered: UndeliveredPorts;
  readonly #intake: Intake;
  readonly #routes: RouteTable;
  readonly #queue: RelayDatabase;
  readonly #database: Database;
  readonly #commits: ShardedCommits;
  readonly #journal: RelayJournal | null;
  readonly #leases: Leases;
  readonly #duePoll: DuePoll;
  readonly #returnedContent: ReturnedContent;
  readonly #scheduler: Scheduler;
  readonly #tls: TlsContexts;
  readonly #sessions: SessionThreads;
  readonly #logins: LoginDesk;
  readonly #deliveries: DeliveryThreads;
  readonly #events: EventLog;
  readonly #tlsReports: TlsReports;
  #tlsReportSender: TlsReportSender | null = null;
  readonly #stsRefresh: StsRefresh | null;
  readonly #pressure: PressureGauge;
  #listener: Listener | null = null;
  readonly #housekeeping: Housekeeping;
  #draining: Promise<void> | null = null;
  /** Jobs made while the relay drains. */
  readonly #tooLate: Job[] = [];

  constructor({ config, log, place }: RelayOptions, lock: DataDirLock, agenda: ClusterAgenda | null) {
    const aside = new Aside(log, () => Atomics.add(this.#gauges, ASIDE_FAULTS, 1));
    this.#place = place ?? onlyPlace(config);
    this.#config = config;
    this.#log = mailLog(log);
    this.#lock = lock;
    this.#tls = new TlsContexts({ config, log, secret: this.#place.tlsSecret });
    const spillDir = join(config.data_dir, 'spill');
    mkdirSync(spillDir, { recursive: true, mode: 0o700 });
    this.#arena = createArena(config.content_memory_mb * MIB, spillDir);
    this.#shares = new RelayShares(this.#place, this.#arena);
    this.#shares.reconfigure(config);
    this.#begun = new BegunFiles(config.data_dir, log, (row) => this.#events.held(row));
    this.#unsettled = new Unsettled(config.data_dir, {
      arena: this.#arena,
      log,
      routes: () => this.#routes,
      unwritten: (all) => this.#commits.unwritten(all),
      fenceOf: (result) => this.#leases.fenceOf(result),
      settled: (result) => this.#events.attempt(result),
      accepted: (message) => this.#events.accepted(message),
    });
    this.#queue = openRelayDatabase({
      config,
      arena: this.#arena.buffer,
      spillDir,
      gauges: this.#gauges,
      log,
      place: this.#place,
      begun: this.#begun,
      kept: this.#unsettled,
      contentReturned: () => void this.#returnedContent.wake(),
      returned: (shard) => {
        this.#commits.wake(shard);
        void aside.later('leases', () => this.#leases.look());
      },
    });
    this.#database = this.#queue.database;
    this.#housekeeping = new Housekeeping({
      database: this.#database,
      intervalMs: () => this.#config.queue.purge_interval_ms,
      also: () => (this.#journal ?? this.#queue).stayEnrolled(),
      log,
    });
    this.#events = new EventLog({
      ...eventLogOptions(config, this.#place.eventsDir, this.#place.process),
      log,
    });
    const { leases, scheduler, duePoll, connections } = openScheduling({
      grantConnections: (grants) => this.#deliveries.grantConnections(grants),
      agenda,
      settings: () => this.#config,
      config,
      queue: this.#queue,
      arena: this.#arena,
      gauges: this.#gauges,
      log: this.#log,
      deliver: (jobs) => this.#deliver(jobs),
    });
    this.#leases = leases;
    this.#scheduler = scheduler;
    this.#returnedContent = new ReturnedContent({ database: this.#database, scheduler, log });
    this.#duePoll = duePoll;
    this.#routes = {
      smarthost: config.delivery.smarthost !== undefined,
      routed: new Set(Object.keys(config.delivery.routes)),
    };
    this.#intake = new Intake({
      routes: this.#routes,
      scheduler,
      arena: this.#arena,
      gauges: this.#gauges,
      contentAccount: this.#shares.contentAccount,
      leases,
      events: this.#events,
      log: intakeLog(this.#log),
      verdict: (thread, ticket, verdict) => this.#sessions.verdict(thread, ticket, verdict),
      resubmit: (entries) => this.#commits.submit(entries),
    });
    this.#commits = this.#createGroupCommit();
    this.#journal = this.#openJournal(spillDir);
    this.#sessions = new SessionThreads({
      messages: (thread, messages, tickets) => this.#submit(thread, messages, tickets),
      logins: (thread, batch) => this.#logins.take(thread, batch),
      closedPeers: (peers) => this.#listener?.closedPeers(peers),
      users: (users) => this.#queue.shardsOfUsers(users),
      failed: threadFailed,
    });
    this.#logins = new LoginDesk(config, loginLog(log), this.#sessions, aside);
    this.#tlsReports = openTlsReports(config, this.#place, log);
    this.#stsRefresh = openStsRefresh({
      place: this.#place,
      log,
      aside,
      current: () => this.#config,
      tlsSession: (session) => {
        if (this.#config.delivery.tls_rpt.enabled) this.#tlsReports.take([session]);
      },
    });
    this.#suspects = openSuspects(this.#database, (jobs) => this.#deliveries.deliver(jobs), this.#log);
    this.#deliveries = new DeliveryThreads({
      results: (results) => this.#settle(results),
      destination: (destination, untilMs, reason) => this.#suspended(destination, untilMs, reason),
      connections: (demands) => connections?.demand(demands),
      tlsSessions: (sessions) => this.#tlsReports.take(sessions),
      warning: (event, fields) => log.warn(event, fields),
      fault: faultsTo(log),
      failed: threadFailed,
    });
    this.#pressure = new PressureGauge({
      config,
      gauges: this.#gauges,
      arena: this.#arena,
      log,
      aside,
      ...pressurePorts(this.#journal, this.#queue, this.#commits, config),
      mails: () => this.#queue.mails(),
      unwrittenBytes: () => this.#shares.unwrittenBytes(),
      diskRoom: (bytes) => this.#shares.diskRoom(bytes, this.#config),
    });
    this.#undelivered = {
      arena: this.#arena,
      leases,
      database: this.#database,
      scheduler,
      suspects: this.#suspects,
      deliveries: this.#deliveries,
      log,
    };
    this.control = relayControl(
      this.#queue,
      this.#scheduler,
      this.#deliveries,
      this.#events,
      this.#journal,
      (target) => takeBack(this.#undelivered, target),
      this.#gauges,
      this.#unsettled,
    );
  }

  async start(): Promise<void> {
    const config = this.#config;
    const tls = this.#tls.load();
    await this.#journal?.open();
    if (this.#queue.shards === null) {
      await this.#unsettled.replay(0, (batch) => this.#database.commit(batch));
      await this.#begun.mark(this.#database);
    }
    const recovered = await (this.#journal ?? this.#database).recover(Date.now());
    const { newestQueueId } = recovered;
    this.#log.info('relay.recovered', { ...recovered });
    if (config.database.driver === 'sqlite' && config.database.path === ':memory:')
      this.#log.warn('relay.in-memory', { advice: 'a restart loses all mail; for throw-away relays only' });
    const notBeforeMs = newestQueueId === null ? 0 : queueIdTimeMs(newestQueueId) + 1;
    const slot = await (this.#journal ?? this.#queue).enroll();
    const shared = { config, arena: this.#arena.buffer, gauges: this.#gauges.buffer, notBeforeMs, tls };
    const { accepts, policy } = this.#place;
    const session = { ...shared, policy };
    const sessions = accepts ? threadCount(config.session_threads) : 0;
    await this.#sessions.start(
      Array.from({ length: sessions }, (_, thread) => ({ ...session, origin: originOf(slot, thread) })),
    );
    if (accepts) await this.#listen();
    const deliveries = threadCount(config.delivery_threads);
    const begunOf = this.#begun.create(deliveries, config.delivery);
    await this.#deliveries.start(
      Array.from({ length: deliveries }, (_, thread) => ({
        ...shared,
        origin: originOf(slot, sessions + thread),
        ownListeners: hostListeners(this.#place, this.addresses),
        stsDir: stsDir(this.#place),
        begun: begunOf(thread),
        name: `${this.#place.process}.${thread}`,
      })),
    );
    this.#scheduler.rebuild(await (this.#journal ?? this.#database).backlog());
    this.#queue.shards?.start();
    this.#leases.start();
    this.#unsettled.start();
    this.#scheduler.start();
    await this.#journal?.start();
    this.#duePoll.start();
    this.#pressure.start();
    this.#housekeeping.start();
    this.#tlsReportSender = openTlsReportSender({
      place: this.#place,
      log: this.#log,
      arena: this.#arena,
      ids: new QueueIds(originOf(slot, sessions + deliveries), notBeforeMs),
      shard: this.#queue.shardIds[0] ?? 0,
      routes: this.#routes,
      current: () => this.#config,
      submit: (entry) => this.#commits.submit([entry]),
    });
    this.#listener?.resume();
  }

  async #listen(): Promise<void> {
    const ports = { listen, reactorConnections, now: policyMs };
    this.#listener = new Listener(
      this.#config,
      this.#sessions.reactorIds,
      this.#gauges,
      this.#log,
      ports,
      this.#place.counts,
      gateOf(this.#place, this.#config, this.#log),
    );
    this.addresses = await this.#listener.start(ownSockets(this.#place));
    // Until mail can go its way, connections wait in the kernel.
    this.#listener.pause();
  }

  remains(): ReturnType<typeof remainsOf> {
    return remainsOf(this.#queue, this.#journal, this.#unsettled);
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
    this.#duePoll.stop();
    this.#housekeeping.stop();
    this.#tlsReportSender?.stop();
    // The rest of the grace is for writing down what came of it; a client that stands still has no part in that.
    const { shutdown_grace_ms: graceMs } = this.#config;
    const workMs = graceMs - Math.min(DRAIN_RESERVE_MS, graceMs / 4);
    const untilMs = steadyMs() + workMs;
    this.#tooLate.push(...this.#suspects.take());
    this.#journal?.hurry();
    const [unfinished] = await Promise.all([
      this.#deliveries.drain(workMs),
      within(workMs, this.#sessions.drain()),
    ]);
    // What does not go over in time is in the journal, and goes over at the next start.
    await finishWork(this.#lastWork, Math.max(0, untilMs - steadyMs()));
    await releaseUndelivered(this.#undelivered, unfinished.concat(this.#tooLate));
  }

  get #lastWork(): LastWork {
    const { shards } = this.#queue;
    return { commits: this.#commits, journal: this.#journal, intake: this.#intake, shards };
  }

  /** Ends now, after a last commit that must not take long. Rows being sent are recovered at the next start. */
  async stop(): Promise<void> {
    this.#listener?.close();
    this.#scheduler.stop();
    this.#suspects.stop();
    this.#duePoll.stop();
    this.#pressure.stop();
    this.#housekeeping.stop();
    this.#tls.stop();
    this.#stsRefresh?.stop();
    this.#tlsReportSender?.stop();
    await Promise.all([this.#sessions.stop(), this.#deliveries.stop(), this.#logins.close()]);
    // What came in last: after_enqueue has acknowledged it, and a result not written down is a duplicate later.
    await within(LAST_COMMIT_MS, commitAll(this.#lastWork));
    await within(LAST_COMMIT_MS, this.#unsettled.end());
    await this.#journal?.end(LAST_COMMIT_MS);
    await this.#scheduler.close();
    this.#leases.stop();
    this.#intake.end();
    await this.#database.close().catch((error) => this.#log.warn('database.close-failed', { error }));
    await Promise.all([this.#events.close(), this.#tlsReports.close()]);
    this.#begun.end();
    this.#lock.release();
  }

  reload(next: Config): { applied: string[]; needsRestart: string[]; problems: string[] } {
    const { config, applied, needsRestart } = planReload(this.#config, next);
    this.#config = config;
    const problems = this.#tls.reconfigure(config);
    this.#listener?.reconfigure(config);
    this.#pressure.reconfigure(config);
    this.#shares.reconfigure(config);
    this.#logins.reconfigure(config);
    this.#tlsReports.reconfigure(config);
    this.#sessions.postAll({ type: 'config', config });
    this.#deliveries.postAll({ type: 'config', config });
    return { applied, needsRestart, problems };
  }

  reopenLog(): void {
    this.#events.reopen();
    this.#sessions.postAll({ type: 'reopen-log' });
    this.#deliveries.postAll({ type: 'reopen-log' });
  }

  #deliver(jobs: Job[]): void {
    if (this.#draining === null) this.#suspects.deliver(jobs);
    else this.#tooLate.push(...jobs);
  }

  #createGroupCommit(): ShardedCommits {
    const intake = this.#intake;
    const ports = {
      plan: (entry: Entry) => intake.plan(entry),
      committed: intake.committed.bind(intake),
      failed: (entries: Entry[], error: RelayError) => intake.failed(entries, error),
      settled: (items: SettleItem[], accepted: boolean[]) => {
        for (let i = 0; i < items.length; i++) this.#settled(items[i] as SettleItem, accepted[i] === true);
      },
      fenceOf: (result: AttemptResult) => this.#leases.fenceOf(result),
      ...withdrawal(() => this.#undelivered),
    };
    const { shardIds, committing } = this.#queue;
    const options = { arena: this.#arena, leaseMs: this.#config.lease_ms, ...committing };
    const commits = shardIds.map((id) => [id, new GroupCommit(this.#database, ports, options)] as const);
    return new ShardedCommits(new Map(commits), ports);
  }

  /** Complete messages from a session thread: into the next commit. */
  #submit(thread: number, messages: Message[], tickets: number[]): void {
    const into = this.#journal?.acknowledges === true ? this.#journal : this.#commits;
    into.submit(messages.map((message, i) => ({ message, plan: [], thread, ticket: tickets[i] as number })));
  }

  #openJournal(spillDir: string): RelayJournal | null {
    const intake = this.#intake;
    return openRelayJournal({
      config: this.#config,
      queue: this.#queue,
      arena: this.#arena,
      spillDir,
      log: this.#log,
      accepts: this.#place.accepts,
      ports: {
        plan: (entry) => intake.plan(entry),
        cancel: (plan) => intake.cancel(plan),
        answered: (entry, isDurable) => intake.answered(entry, isDurable),
        drained: ({ message, plan }, leaseUntilMs) => intake.handOff(message, plan, leaseUntilMs),
        failed: (entries, error) => intake.failed(entries, error),
      },
      died: threadFailed,
    });
  }

  /** Outcomes of attempts: into the next commit, with the DSNs they call for. */
  #settle(results: AttemptResult[]): void {
    this.#commits.settle(this.#leases.over(results).map(toSettleItem));
  }

  #settled({ settlement, result }: SettleItem, accepted: boolean): void {
    this.#suspects.over(result.queueId, result.destination);
    if (accepted) this.#events.attempt(this.#leases.counting(result));
    else logRejected(this.#log, result);
    this.#leases.drop(result);
    this.#scheduler.settled(result, accepted ? settlement.retryAtMs : null);
  }

  #suspended(destination: string, untilMs: number, reason: string): void {
    this.#scheduler.suspend(destination, untilMs);
    logSuspended(this.#log, destination, untilMs, reason);
  }
}
