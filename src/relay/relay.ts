import { GAUGE } from '../admission/gauges.ts';
import { type DataDirLock, lockDataDir } from '../base/data-dir.ts';
import { steadyMs } from '../base/steady.ts';
import { within } from '../base/within.ts';
import { planReload } from '../config/reload.ts';
import type { Config } from '../config/schema.ts';
import type { ControlTarget } from '../control/target.ts';
import { Listener } from '../listener/listener.ts';
import type { ListeningAddress } from '../listener/sockets.ts';
import { originOf, QueueIds, queueIdTimeMs } from '../mail/queue-id.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import { listen, reactorConnections } from '../native.ts';
import { policyMs } from '../policy/policy-time.ts';
import type { TlsReportSender } from '../report/tls-report-sender.ts';
import { commitAll, finishWork, type LastWork } from './drain.ts';
import type { RelayOptions } from './place.ts';
import { gateOf, hostListeners, ownSockets, threadCount } from './place.ts';
import { remainsOf } from './remains.ts';
import { openAgenda } from './scheduling.ts';
import { Stages } from './stages.ts';
import { relayStatus } from './status.ts';
import { stsDir } from './sts.ts';
import { hostFilterPath } from './suppression-parts.ts';
import { openTlsReportSender } from './tls-reports.ts';
import { releaseUndelivered } from './undelivered.ts';

/** How long the last commits may take: at a drain at most this part of shutdown_grace_ms, at a stop LAST_COMMIT_MS. */
const DRAIN_RESERVE_MS = 1000;
const LAST_COMMIT_MS = 1000;

/** @throws RelayError when a stage cannot start; what was started is stopped again. */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const agenda = await openAgenda(options.config, options.log);
  const lock = lockDataDir(options.config.data_dir, 'queue');
  const relay = new Relay(new Stages(options, agenda), lock);
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
  readonly #stages: Stages;
  readonly #lock: DataDirLock;
  #tlsReportSender: TlsReportSender | null = null;
  #draining: Promise<void> | null = null;

  constructor(stages: Stages, lock: DataDirLock) {
    this.#stages = stages;
    this.#lock = lock;
  }

  get control(): ControlTarget {
    return { ...this.#stages.control, status: (counts) => relayStatus(this.#stages, counts) };
  }

  async start(): Promise<void> {
    const {
      arena,
      begun,
      commits,
      config,
      database,
      deliveries,
      duePoll,
      gauges,
      housekeeping,
      journal,
      learning,
      leases,
      log,
      logins,
      place,
      pressure,
      queue,
      replies,
      routes,
      scheduler,
      sessions,
      shaping,
      sources,
      suppression,
      reports,
      signing,
      suspensions,
      tls,
      unsettled,
    } = this.#stages;
    const slots = tls.load();
    await journal?.open();
    if (queue.shards === null) {
      await unsettled.replay(0, (batch) => database.commit(batch));
      await begun.mark(database);
    }
    const recovered = await (journal ?? database).recover(Date.now());
    const { released, rekeyed, newestQueueId } = recovered;
    log.info('relay.recovered', { released, rekeyed, newest_queue_id: newestQueueId });
    if (config.database.driver === 'sqlite' && config.database.path === ':memory:')
      log.warn('relay.in_memory', {
        advice: 'a restart loses all mail; for throw-away relays only',
      });
    const notBeforeMs = newestQueueId === null ? 0 : queueIdTimeMs(newestQueueId) + 1;
    const slot = await (journal ?? queue).enroll();
    const shared = {
      config,
      arena: arena.buffer,
      gauges: gauges.buffer,
      notBeforeMs,
      tls: slots,
      returnPaths: reports.load(),
    };
    const { accepts, policy } = place;
    await logins.start();
    const suppressionFilter = hostFilterPath(place);
    const session = { ...shared, config: logins.offering(config), policy, suppressionFilter };
    const sessionThreads = accepts ? threadCount(config.session_threads) : 0;
    await sessions.start(
      Array.from({ length: sessionThreads }, (_, thread) => ({ ...session, origin: originOf(slot, thread) })),
    );
    if (accepts) await this.#listen();
    const deliveryThreads = threadCount(config.delivery_threads);
    shaping.start();
    const begunOf = begun.create(deliveryThreads, config.delivery);
    await deliveries.start(
      Array.from({ length: deliveryThreads }, (_, thread) => ({
        ...shared,
        origin: originOf(slot, sessionThreads + thread),
        ownListeners: hostListeners(place, this.addresses),
        shaping: shaping.data,
        limits: shaping.table,
        stsDir: stsDir(place),
        begun: begunOf(thread),
        replies: replies.texts,
        thread,
        threads: deliveryThreads,
        name: `${place.process}.${thread}`,
      })),
    );
    await sources.start();
    learning.start();
    await signing.start();
    await suspensions.rules.load();
    suspensions.rules.start();
    suppression.start();
    scheduler.rebuild(await (journal ?? database).backlog());
    queue.shards?.start();
    leases.start();
    unsettled.start();
    scheduler.start();
    await journal?.start();
    duePoll.start();
    pressure.start();
    housekeeping.start();
    this.#stages.rates.start();
    // On servers one process of a host counts for all.
    if (queue.shards === null || place.process === 0) this.#stages.counts.refresh();
    this.#tlsReportSender = openTlsReportSender({
      place,
      log,
      arena,
      ids: new QueueIds(originOf(slot, sessionThreads + deliveryThreads), notBeforeMs),
      shard: queue.shardIds[0] ?? 0,
      routes,
      current: () => this.#stages.config,
      submit: (entry) => commits.submit([entry]),
    });
    this.#stages.listener?.resume();
  }

  async #listen(): Promise<void> {
    const { gauges, log, place, sessions } = this.#stages;
    const ports = { listen, reactorConnections, now: policyMs };
    this.#stages.listener = new Listener(
      this.#stages.config,
      sessions.reactorIds,
      gauges,
      log,
      ports,
      place.counts,
      gateOf(place, this.#stages.config, log),
    );
    this.addresses = await this.#stages.listener.start(ownSockets(place));
    // Connections wait in the kernel until the stages are ready for mail.
    this.#stages.listener.pause();
  }

  remains(): ReturnType<typeof remainsOf> {
    const { journal, queue, unsettled } = this.#stages;
    return remainsOf(queue, journal, unsettled);
  }

  /** From now on accepts also on the sockets of these relay processes, and of no others. */
  standInFor(processes: readonly number[]): void {
    const { sockets } = this.#stages.place;
    this.#stages.listener?.standIn(
      sockets.filter(({ process }) => process !== null && processes.includes(process)),
    );
  }

  /** Open inbound connections of this process. */
  get connections(): number {
    return this.#stages.place.counts.open;
  }

  /** Takes no new mail; finishes open transactions and deliveries on the wire, and makes what they brought durable. */
  drain(): Promise<void> {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  async #drain(): Promise<void> {
    const {
      deliveries,
      duePoll,
      gauges,
      housekeeping,
      journal,
      scheduler,
      sessions,
      suspects,
      tooLate,
      undelivered,
    } = this.#stages;
    this.#stages.draining = true;
    Atomics.store(gauges, GAUGE.draining, 1);
    this.#stages.listener?.close();
    scheduler.stop();
    duePoll.stop();
    housekeeping.stop();
    this.#tlsReportSender?.stop();
    // The rest of the grace is for writing down results; clients that stand still must not use it up.
    const { shutdown_grace_ms: graceMs } = this.#stages.config;
    const workMs = graceMs - Math.min(DRAIN_RESERVE_MS, graceMs / 4);
    const untilMs = steadyMs() + workMs;
    tooLate.push(...suspects.take());
    journal?.hurry();
    const [unfinished] = await Promise.all([deliveries.drain(workMs), within(workMs, sessions.drain())]);
    // Mail that does not leave the journal in time stays there, and leaves it after the next start.
    await finishWork(this.#lastWork, Math.max(0, untilMs - steadyMs()));
    await releaseUndelivered(undelivered, unfinished.concat(tooLate));
  }

  get #lastWork(): LastWork {
    const { commits, intake, journal, queue } = this.#stages;
    const { shards } = queue;
    return {
      commits,
      journal,
      intake,
      shards,
    };
  }

  /** Ends now, after a last commit that may take LAST_COMMIT_MS. Rows being sent are recovered at the next start. */
  async stop(): Promise<void> {
    const {
      begun,
      database,
      deliveries,
      duePoll,
      events,
      housekeeping,
      intake,
      journal,
      learning,
      leases,
      log,
      logins,
      pressure,
      scheduler,
      sessions,
      reports,
      shaping,
      sources,
      signing,
      stsRefresh,
      suspects,
      suppression,
      suspensions,
      tls,
      tlsReports,
      unsettled,
    } = this.#stages;
    this.#stages.listener?.close();
    scheduler.stop();
    suspects.stop();
    suspensions.rules.stop();
    duePoll.stop();
    pressure.stop();
    housekeeping.stop();
    shaping.stop();
    this.#stages.rates.stop();
    tls.stop();
    signing.stop();
    stsRefresh?.stop();
    sources.stop();
    this.#tlsReportSender?.stop();
    await Promise.all([sessions.stop(), deliveries.stop(), logins.close(), reports.close()]);
    await learning.stop();
    signing.close();
    // after_enqueue has acknowledged the mail that came in last, and a result that is not written down means a
    // duplicate.
    await within(LAST_COMMIT_MS, commitAll(this.#lastWork));
    await within(LAST_COMMIT_MS, unsettled.end());
    await journal?.end(LAST_COMMIT_MS);
    await within(LAST_COMMIT_MS, suppression.stop());
    await scheduler.close();
    leases.stop();
    intake.end();
    await database.close().catch((error) => log.warn('database.close_failed', { error }));
    await Promise.all([events.close(), tlsReports.close()]);
    begun.end();
    this.#lock.release();
  }

  reload(next: Config): { applied: string[]; needsRestart: string[]; problems: string[] } {
    const {
      deliveries,
      events,
      learning,
      logins,
      pressure,
      replies,
      reports,
      sessions,
      shaping,
      shares,
      sources,
      signing,
      tls,
      tlsReports,
    } = this.#stages;
    const { config, applied, needsRestart } = planReload(this.#stages.config, next);
    this.#stages.config = config;
    const problems = [...tls.reconfigure(config), ...signing.reconfigure(), ...shaping.reconfigure(config)];
    this.#stages.listener?.reconfigure(config);
    learning.reconfigure(config);
    pressure.reconfigure(config);
    shares.reconfigure(config);
    logins.reconfigure(config);
    tlsReports.reconfigure(config);
    events.reconfigure(config);
    sessions.postAll({ type: 'config', config: logins.offering(config) });
    const wrongRules = replies.reconfigure(config);
    deliveries.postAll({
      type: 'config',
      config,
      shaping: shaping.data,
      replies: wrongRules.length > 0 ? null : replies.texts,
    });
    void sources.start();
    return { applied, needsRestart, problems: [...problems, ...wrongRules, ...reports.reconfigure()] };
  }

  /** Rules of operators began or ended, as the host's files have them. @returns shards that could not be told. */
  takeSuspensions(rules: SuspensionRule[]): Promise<string[]> {
    return this.#stages.suspensions.rules.take(rules);
  }

  /** What the other relay processes of the host learned of limits. */
  takeLearned(lines: readonly string[]): void {
    this.#stages.learning.heard(lines);
  }

  reopenLog(): void {
    const { deliveries, events, sessions } = this.#stages;
    events.reopen();
    sessions.postAll({ type: 'reopen-log' });
    deliveries.postAll({ type: 'reopen-log' });
  }
}
