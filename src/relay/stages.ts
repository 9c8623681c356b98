/**
 * The stages of one relay process, built in the mail's order and wired to each other. There is no rule about mail here:
 * the rules are in the stages. When the stages start and end is in relay.ts.
 *
 *   session threads → group commit → (250) → scheduler → delivery threads → group commit (settlement) → events
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ASIDE_FAULTS, createGauges, GAUGE, type Gauges } from '../admission/gauges.ts';
import { PressureGauge } from '../admission/pressure.ts';
import { LoginDesk } from '../auth/login-desk.ts';
import { Aside } from '../base/aside.ts';
import type { RelayError } from '../base/errors.ts';
import { type Log, writeLine } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { ControlTarget, HoldsAll, SchedulerStats } from '../control/target.ts';
import type { Database } from '../database/database.ts';
import { DeliveryThreads } from '../delivery/delivery-threads.ts';
import type { StsRefresh } from '../delivery/security/sts-refresh.ts';
import { reportOf } from '../egress/source-report.ts';
import type { Listener } from '../listener/listener.ts';
import type { RouteTable } from '../mail/destination.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import type { QueueFile } from '../mail/queue-stats.ts';
import { meansAll } from '../mail/suspension.ts';
import { type Arena, createArena } from '../native.ts';
import type { Entry, SettleItem } from '../persistence/entry.ts';
import { GroupCommit } from '../persistence/group-commit.ts';
import { Housekeeping } from '../persistence/housekeeping.ts';
import { ShardedCommits } from '../persistence/sharded-commits.ts';
import { toSettleItem } from '../persistence/to-settlement.ts';
import { Unsettled } from '../persistence/unsettled.ts';
import { EventLog, eventLogOptions } from '../report/events.ts';
import { MinuteRates } from '../report/minute-rates.ts';
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
import { QueueCounts } from './counts.ts';
import { openRelayDatabase, type RelayDatabase } from './database.ts';
import { RelaySources } from './egress.ts';
import { RelayExplain } from './explain.ts';
import { Intake } from './intake.ts';
import { openRelayJournal, pressurePorts, type RelayJournal } from './journal.ts';
import { Learning } from './learning.ts';
import { logRejected, logSuspended, threadFailed } from './lines.ts';
import type { ProcessPlace, RelayOptions } from './place.ts';
import { onlyPlace, threadCount } from './place.ts';
import { RelayReplies } from './replies.ts';
import { RelayReports } from './reports.ts';
import { type ClusterAgenda, openScheduling, openSuspects } from './scheduling.ts';
import { RelayShaping } from './shaping.ts';
import { RelayShares } from './shares.ts';
import { RelaySigning } from './signing.ts';
import { openStsRefresh } from './sts.ts';
import { RelaySuppression } from './suppression.ts';
import { RelaySuspensions } from './suspensions.ts';
import { openTlsReports } from './tls-reports.ts';
import { takeBack, type UndeliveredPorts, withdrawal } from './undelivered.ts';

const MIB = 1_048_576;

const usedBytes = (file: QueueFile | null): number => (file === null ? 0 : file.bytes - file.freeBytes);

export class Stages {
  readonly control: ControlTarget;
  /** The config as it is now; a reload replaces it. */
  config: Config;
  readonly log: Log;
  readonly place: ProcessPlace;
  readonly arena: Arena;
  readonly gauges: Gauges = createGauges();
  readonly shares: RelayShares;
  readonly shaping: RelayShaping;
  readonly learning: Learning;
  readonly begun: BegunFiles;
  readonly suspects: Suspects;
  readonly unsettled: Unsettled;
  readonly undelivered: UndeliveredPorts;
  readonly intake: Intake;
  readonly routes: RouteTable;
  readonly queue: RelayDatabase;
  readonly database: Database;
  readonly commits: ShardedCommits;
  readonly journal: RelayJournal | null;
  readonly leases: Leases;
  readonly duePoll: DuePoll;
  readonly returnedContent: ReturnedContent;
  readonly scheduler: Scheduler;
  readonly suspensions: RelaySuspensions;
  readonly suppression: RelaySuppression;
  readonly tls: TlsContexts;
  readonly sessions: SessionThreads;
  readonly logins: LoginDesk;
  readonly deliveries: DeliveryThreads;
  readonly events: EventLog;
  readonly replies: RelayReplies;
  readonly rates = new MinuteRates(steadyMs);
  readonly counts: QueueCounts;
  readonly tlsReports: TlsReports;
  readonly stsRefresh: StsRefresh | null;
  readonly sources: RelaySources;
  readonly signing: RelaySigning;
  readonly reports: RelayReports;
  readonly pressure: PressureGauge;
  /** null until sessions are ready to take its connections. */
  listener: Listener | null = null;
  readonly housekeeping: Housekeeping;
  /** Delivery takes no more jobs. */
  draining = false;
  /** Jobs made while the relay drains. */
  readonly tooLate: Job[] = [];

  constructor({ config, log, place }: RelayOptions, agenda: ClusterAgenda | null) {
    const aside = new Aside(log, () => Atomics.add(this.gauges, ASIDE_FAULTS, 1));
    this.place = place ?? onlyPlace(config);
    this.config = config;
    this.log = mailLog(log);
    this.replies = new RelayReplies(config);
    this.tls = new TlsContexts({ config, log, secret: this.place.tlsSecret });
    const spillDir = join(config.data_dir, 'spill');
    mkdirSync(spillDir, { recursive: true, mode: 0o700 });
    this.arena = createArena(config.content_memory_mb * MIB, spillDir);
    this.shares = new RelayShares(this.place, this.arena);
    this.shares.reconfigure(config);
    this.shaping = new RelayShaping({
      config,
      place: this.place,
      log: this.log,
      begins: (key) => this.learning.begins(key),
      saw: (sign) => this.learning.saw(sign),
      belongs: (destination, site) => this.scheduler.belongs(destination, site),
      agenda,
    });
    this.begun = new BegunFiles(config.data_dir, log, (row) => this.events.held(row));
    this.unsettled = new Unsettled(config.data_dir, {
      arena: this.arena,
      log,
      routes: () => this.routes,
      unwritten: (all) => this.commits.unwritten(all),
      fenceOf: (result) => this.leases.fenceOf(result),
      settled: (result) => this.events.attempt(result),
      accepted: (message) => this.events.accepted(message),
    });
    this.queue = openRelayDatabase({
      config,
      arena: this.arena.buffer,
      spillDir,
      gauges: this.gauges,
      log,
      place: this.place,
      begun: this.begun,
      kept: this.unsettled,
      contentReturned: () => void this.returnedContent.wake(),
      returned: (shard) => {
        this.commits.wake(shard);
        void aside.later('leases', () => this.leases.look());
      },
    });
    this.database = this.queue.database;
    this.housekeeping = new Housekeeping({
      database: this.database,
      intervalMs: () => this.config.queue.purge_interval_ms,
      keep: () => {
        const { keep_failed_messages: messages, keep_failed_mb } = this.config.queue;
        return { messages, bytes: keep_failed_mb * MIB };
      },
      also: async () => {
        await (this.journal ?? this.queue).stayEnrolled();
        const isQuiet = Atomics.load(this.gauges, GAUGE.inflightMails) === 0;
        if (isQuiet && (await this.queue.compact()))
          log.info('queue.compacted', { file_bytes: this.queue.file()?.bytes ?? 0 });
      },
      log,
    });
    this.events = new EventLog({
      ...eventLogOptions(config, this.place.eventsDir, this.place.process),
      log,
      counts: this.rates.counts,
    });
    this.learning = new Learning({
      config,
      place: this.place,
      log: this.log,
      events: this.events,
      shaping: this.shaping,
      nodes: agenda,
      siteOf: (domain) => this.scheduler.standing(domain).site,
      threads: threadCount(config.delivery_threads),
      postGates: (gates) => this.deliveries.postAll({ type: 'gates', gates }),
      postMoves: (moves) => this.deliveries.postAll({ type: 'moves', moves }),
    });
    this.counts = new QueueCounts({
      count: () => this.database.stats(),
      now: () => timeOfDayMs(steadyMs()),
      steady: steadyMs,
    });
    this.suspensions = new RelaySuspensions({
      place: this.place,
      queue: this.queue,
      log,
      settings: () => this.config,
      undelivered: () => this.undelivered,
      duePoll: () => this.duePoll,
      deliver: (jobs) => this.suspects.deliver(jobs),
      settle: (results) => this.#settle(results),
    });
    this.suppression = new RelaySuppression({
      config,
      place: this.place,
      arena: this.arena,
      parts: this.queue.suppressions,
      log,
      deliver: (jobs) => this.#deliver(jobs),
      settle: (results) => this.#settle(results),
      settings: () => this.config,
    });
    const { leases, scheduler, duePoll, connections } = openScheduling({
      grantConnections: (grants) => this.deliveries.grantConnections(grants),
      agenda,
      settings: () => this.config,
      config,
      queue: this.queue,
      arena: this.arena,
      gauges: this.gauges,
      log: this.log,
      deliver: (jobs) => this.suppression.deliver(jobs),
      held: (destination) => this.suspensions.holds(destination),
      outlook: (site) => this.shaping.keys.outlook(site),
    });
    this.leases = leases;
    this.scheduler = scheduler;
    this.returnedContent = new ReturnedContent({ database: this.database, scheduler, log });
    this.duePoll = duePoll;
    this.routes = {
      smarthost: config.delivery.smarthost !== undefined,
      routed: new Set(Object.keys(config.delivery.routes)),
    };
    this.intake = new Intake({
      routes: this.routes,
      scheduler,
      arena: this.arena,
      gauges: this.gauges,
      contentAccount: this.shares.contentAccount,
      leases,
      events: this.events,
      log: intakeLog(this.log),
      verdict: (thread, ticket, verdict) => this.sessions.verdict(thread, ticket, verdict),
      resubmit: (entries) => this.commits.submit(entries),
    });
    this.commits = this.#createGroupCommit();
    this.journal = this.#openJournal(spillDir);
    this.sessions = new SessionThreads({
      messages: (thread, messages, tickets) => this.#submit(thread, messages, tickets),
      logins: (thread, batch) => this.logins.take(thread, batch),
      closedPeers: (peers) => this.listener?.closedPeers(peers),
      users: (users) => this.queue.shardsOfUsers(users),
      suppressed: (target) => this.suppression.isSuppressed(target),
      report: (thread, came) => this.reports.take(thread, came),
      failed: threadFailed,
    });
    this.logins = new LoginDesk(config, loginLog(log), this.sessions, aside, undefined, () =>
      this.sessions.postAll({ type: 'config', config: this.logins.offering(this.config) }),
    );
    this.tlsReports = openTlsReports(() => this.config, this.place, log);
    this.stsRefresh = openStsRefresh({
      place: this.place,
      log,
      aside,
      current: () => this.config,
      tlsSession: (session) => {
        if (this.config.delivery.tls_rpt.enabled) this.tlsReports.take([session]);
      },
    });
    this.sources = new RelaySources({
      log,
      aside,
      current: () => this.config,
      asksDns: this.place.process === 0,
      stateChanged: (change) => this.events.sourceState(change),
      missing: (missing) => this.deliveries.postAll({ type: 'sources', missing }),
    });
    this.signing = new RelaySigning({
      log,
      aside,
      current: () => this.config,
      tell: (table) => this.deliveries.postAll({ type: 'signing', table }),
    });
    this.reports = new RelayReports({
      log: this.log,
      events: this.events,
      suppression: this.suppression,
      texts: () => this.replies.texts,
      current: () => this.config,
      complained: (complaint) => this.learning.complained(complaint),
      tell: (keys) => {
        this.sessions.postAll({ type: 'return-paths', keys });
        this.deliveries.postAll({ type: 'return-paths', keys });
      },
      verdict: (thread, ticket, verdict) => this.sessions.verdict(thread, ticket, verdict),
    });
    this.suspects = openSuspects(this.database, (jobs) => this.deliveries.deliver(jobs), this.log);
    this.deliveries = new DeliveryThreads({
      results: (results) => {
        this.shaping.traffic.take(results);
        this.learning.take(results);
        this.#settle(results);
      },
      destination: (destination, untilMs, reason) => this.#suspended(destination, untilMs, reason),
      connections: (demands) => connections?.demand(demands),
      limitKeys: (thread, news) => this.shaping.take(thread, news),
      tlsSessions: (sessions) => this.tlsReports.take(sessions),
      said: (line) => writeLine(log, line),
      fault: faultsTo(log),
      failed: threadFailed,
    });
    this.pressure = new PressureGauge({
      config,
      gauges: this.gauges,
      arena: this.arena,
      log,
      aside,
      ...pressurePorts(this.journal, this.queue, this.commits, () => this.config),
      mails: () => this.queue.mails(),
      queueFileBytes: () => usedBytes(this.queue.file()),
      unwrittenBytes: () => this.shares.unwrittenBytes(),
      diskRoom: (bytes) => this.shares.diskRoom(bytes, this.config),
    });
    this.undelivered = {
      arena: this.arena,
      leases,
      database: this.database,
      scheduler,
      suspects: this.suspects,
      deliveries: this.deliveries,
      log,
      forget: (job) => this.suspensions.forget(job),
    };
    const explain = new RelayExplain({
      current: () => this.config,
      shaping: this.shaping,
      learning: this.learning,
      siteOf: (destination) => this.scheduler.standing(destination).site,
      isPresent: (source) => this.sources.checks.standing(source)?.present !== false,
    });
    this.control = relayControl(
      this.queue,
      this.scheduler,
      this.deliveries,
      this.events,
      this.journal,
      (selection) => takeBack(this.undelivered, selection),
      this.gauges,
      this.unsettled,
      () => this.config.replies.unknown_kept,
      () => this.#holds(),
      () => reportOf(this.config.egress, (source) => this.sources.checks.standing(source)),
      (entries) => explain.explain(entries),
      () => this.shaping.sites(),
    );
  }

  #holds(): Required<Pick<SchedulerStats, 'holds' | 'rules'>> {
    const { active } = this.suspensions.rules;
    const holds = active.filter(meansAll).map((rule): HoldsAll => {
      const kind = rule.createdAtMs === 0 ? 'suspensions_unknown' : 'suspended';
      return { kind, detail: rule.reason };
    });
    if (!this.config.delivery.enabled) holds.push({ kind: 'delivery_disabled', detail: 'delivery.enabled' });
    if (this.draining) holds.push({ kind: 'draining', detail: '' });
    const { shards, shardIds } = this.queue;
    const away = shards?.missing() ?? [];
    const none = shards === null ? this.commits.stats().failing : away.length === shardIds.length;
    if (none) holds.push({ kind: 'database_away', detail: away[0]?.detail ?? '' });
    return { holds, rules: [...active] };
  }

  #deliver(jobs: Job[]): void {
    if (!this.draining) this.suspensions.deliver(jobs);
    else this.tooLate.push(...jobs);
  }

  #createGroupCommit(): ShardedCommits {
    const intake = this.intake;
    const ports = {
      plan: (entry: Entry) => intake.plan(entry),
      committed: intake.committed.bind(intake),
      failed: (entries: Entry[], error: RelayError) => intake.failed(entries, error),
      settled: (items: SettleItem[], accepted: boolean[]) => {
        for (let i = 0; i < items.length; i++) this.#settled(items[i] as SettleItem, accepted[i] === true);
      },
      fenceOf: (result: AttemptResult) => this.leases.fenceOf(result),
      ...withdrawal(() => this.undelivered),
    };
    const { shardIds, committing } = this.queue;
    const options = { arena: this.arena, leaseMs: this.config.lease_ms, ...committing };
    const commits = shardIds.map((id) => [id, new GroupCommit(this.database, ports, options)] as const);
    return new ShardedCommits(new Map(commits), ports);
  }

  /** Puts complete messages from a session thread into the next commit. */
  #submit(thread: number, messages: Message[], tickets: number[]): void {
    const into = this.journal?.acknowledges === true ? this.journal : this.commits;
    into.submit(messages.map((message, i) => ({ message, plan: [], thread, ticket: tickets[i] as number })));
  }

  #openJournal(spillDir: string): RelayJournal | null {
    const intake = this.intake;
    return openRelayJournal({
      config: this.config,
      queue: this.queue,
      arena: this.arena,
      spillDir,
      log: this.log,
      accepts: this.place.accepts,
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

  /** Puts results of attempts into the next commit, with the DSNs they call for. */
  #settle(results: AttemptResult[]): void {
    const items = this.leases
      .over(this.suspensions.complete(results))
      .map((result) => this.suppression.learn(toSettleItem(result)));
    this.suppression.settle(items, (ready) => this.commits.settle(ready));
  }

  #settled({ settlement, result }: SettleItem, accepted: boolean): void {
    this.suspects.over(result.queueId, result.destination);
    if (accepted) this.events.attempt(this.leases.counting(result));
    else logRejected(this.log, result);
    this.leases.drop(result);
    this.scheduler.settled(result, accepted ? settlement.retryAtMs : null);
  }

  #suspended(destination: string, untilMs: number, reason: string): void {
    this.scheduler.suspend(destination, untilMs, reason);
    logSuspended(this.log, destination, untilMs, reason);
  }
}
