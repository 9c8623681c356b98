/**
 * Runs the relay from start to exit code: log, lock, control socket, signals and service manager around what
 * relay/relay.ts builds, in this process or, with several relay processes, under a supervisor.
 */

import type { Cluster } from 'node:cluster';
import { randomInt } from 'node:crypto';
import { closeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { crashOnFaults } from './base/crash.ts';
import { lockDataDir } from './base/data-dir.ts';
import { RelayError, startFault } from './base/errors.ts';
import { EXIT_OF_ERROR, type ExitCode } from './base/exit-codes.ts';
import { sayAtOnce } from './base/log-sink.ts';
import { PinoLog } from './base/pino-log.ts';
import { narrowDataDir } from './base/private-file.ts';
import { steadyMs, timeOfDayMs } from './base/steady.ts';
import type { Config } from './config/schema.ts';
import { type Drainable, Lifecycle } from './control/lifecycle.ts';
import { ControlServer } from './control/server.ts';
import { controlPathIn } from './control/socket-path.ts';
import type { ControlTarget } from './control/target.ts';
import type { ListeningAddress } from './listener/sockets.ts';
import { loadAgain, loadWithFiles } from './load-with-files.ts';
import type { SuspensionRule } from './mail/suspension.ts';
import { type HostPolicy, openHostPolicy } from './relay/host-policy.ts';
import { openBook } from './relay/suspension-book.ts';
import type { ForkEvents, Forked } from './supervisor/child.ts';
import { forkPlane } from './supervisor/fork-plane.ts';
import type { FromProcess } from './supervisor/messages.ts';
import { PlaneKeeper } from './supervisor/plane-keeper.ts';
import { leftoverProcesses, processCount } from './supervisor/process-config.ts';
import { ServiceManager } from './supervisor/service-manager.ts';
import { buildInfo, version } from './version.ts';

const RELAY_PROCESS = fileURLToPath(new URL('./supervisor/relay-process.ts', import.meta.url));

const PARENT_LOOK_MS = 500;

/**
 * Listens to signals from the first moment on; those that come while the relay starts wait for it. Early also because
 * SIGUSR1 without a listener opens Node's debugger (and with --disable-sigusr1 a listener would not hear it either).
 */
class Signals {
  readonly #early: (NodeJS.Signals | 'parent ended')[] = [];
  #lifecycle: Lifecycle | null = null;

  constructor() {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'] as const)
      process.on(signal, () => this.#on(signal));
    this.#endWithParent();
  }

  /**
   * npm hands on INT and TERM only: a terminal that closes, or a kill, would leave the relay of `npm start` running. What
   * build.sh says is for this process alone.
   */
  #endWithParent(): void {
    const parent = Number(process.env.PROTORELAY_ENDS_WITH);
    delete process.env.PROTORELAY_ENDS_WITH;
    if (!(parent > 0)) return;
    const timer = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(timer);
      this.#on('parent ended');
    }, PARENT_LOOK_MS).unref();
  }

  deliverTo(lifecycle: Lifecycle): void {
    this.#lifecycle = lifecycle;
    for (const signal of this.#early) this.#on(signal);
  }

  #on(signal: NodeJS.Signals | 'parent ended'): void {
    if (this.#lifecycle === null) this.#early.push(signal);
    else if (signal === 'SIGHUP') void this.#lifecycle.reload();
    else if (signal === 'SIGUSR1') this.#lifecycle.reopenLog();
    else this.#lifecycle.terminate(signal);
  }
}

/** A relay that serves: of one process, or the supervisor of several. */
interface Serving extends Drainable {
  addresses: ListeningAddress[];
  control: ControlTarget;
  healthy(): boolean;
  policy: HostPolicy;
  /** Rules of operators began or ended. @returns who could not be told. */
  takeSuspensions(rules: SuspensionRule[]): Promise<string[]>;
}

interface Context {
  config: Config;
  configPath: string;
  log: PinoLog;
  serviceManager: ServiceManager;
  /** The config as of the last reload. */
  current(): Config;
}

/** @throws RelayError when the relay cannot start. */
export async function runRelay(configPath: string): Promise<ExitCode> {
  const signals = new Signals();
  const { config, warnings } = await loadWithFiles(configPath);
  const log = openLog(config);
  const crash = crashOnFaults(log);
  log.info('relay.starting', {
    version: version(),
    commit: buildInfo()?.commit ?? 'unknown',
    pid: process.pid,
    config: configPath,
  });
  for (const warning of warnings) log.warn('config.warning', { warning });
  try {
    return await serve(config, configPath, log, signals);
  } catch (error) {
    const fault = startFault(error);
    if (fault === null) return crash(error);
    log.error('relay.start_failed', { error: fault });
    // Threads that did start are still running: end them with the program.
    sayAtOnce(`protorelay: ${fault.message}\n`);
    log.close();
    process.exit(EXIT_OF_ERROR[fault.code]);
  } finally {
    log.close();
  }
}

function openLog(config: Config): PinoLog {
  try {
    return new PinoLog(config.log);
  } catch (error) {
    const text = `the log file ${config.log.file} cannot be opened: ${(error as Error).message}`;
    throw new RelayError('data_dir_unusable', text, error);
  }
}

/** Closes to others what an earlier version left for them to read, and logs it. */
function narrow({ data_dir, database }: Config, log: PinoLog): void {
  const queue = database.driver === 'sqlite' && database.path !== ':memory:' ? database.path : null;
  try {
    const paths = narrowDataDir(data_dir, queue);
    if (paths.length > 0) log.warn('data_dir.narrowed', { paths });
  } catch (error) {
    log.warn('data_dir.open_to_others', { error });
  }
}

async function serve(first: Config, configPath: string, log: PinoLog, signals: Signals): Promise<ExitCode> {
  let config = first;
  const lock = lockDataDir(config.data_dir);
  if (lock.usedBefore) narrow(config, log);
  const { sendDatagram } = await import('./native.ts');
  const serviceManager = new ServiceManager({
    environment: process.env,
    pid: process.pid,
    log,
    sendDatagram,
    monotonicUs: () => process.hrtime.bigint() / 1000n,
    setInterval(ms, fire) {
      const timer = setInterval(fire, ms).unref();
      return { cancel: () => clearInterval(timer) };
    },
  });
  const processes = processCount(config);
  const leftovers = leftoverProcesses(config, processes);
  const context = { config, configPath, log, serviceManager, current: () => config };
  const alone = processes === 1 && leftovers.length === 0;
  const start = (): Promise<Serving> =>
    alone ? startAlone(context) : startSupervisor(context, processes, leftovers);
  const relay = await start().catch((error: unknown) => {
    lock.release();
    throw error;
  });
  const startedAtMs = timeOfDayMs(steadyMs());
  const controlPath = controlPathIn(config.data_dir);
  const plane = keepPlane(config, log);
  const lifecycle = new Lifecycle(withPlane(relay, plane), {
    log,
    graceMs: () => config.shutdown_grace_ms,
    load: () => loadAgain(configPath),
    reloaded: (next) => {
      config = next;
      log.setLevel(next.log.level);
    },
    reopenLog: () => {
      log.reopen();
      plane.reopenLog();
    },
    tell: (state) => serviceManager.tell(state),
    now: steadyMs,
  });
  const control = await ControlServer.start({
    path: controlPath,
    target: {
      ...relay.control,
      bans: relay.policy.keeper,
      suspensions: openBook(config, (rules) => relay.takeSuspensions(rules)),
    },
    reload: () => lifecycle.reload(),
    facts: () => ({
      pid: process.pid,
      version: version(),
      startedAtMs,
      listeners: relay.addresses.map(addressText),
      reload: lifecycle.lastReload,
    }),
    log,
  });
  await plane.start().catch(async (error: unknown) => {
    await control.close();
    await relay.stop();
    lock.release();
    throw error;
  });
  log.info('relay.ready', { addresses: relay.addresses, hostname: config.hostname });
  announce(config, relay.addresses);
  serviceManager.tell('ready');
  serviceManager.feedWatchdog(() => relay.healthy());
  signals.deliverTo(lifecycle);
  const code = await lifecycle.ended;
  await control.close();
  await relay.policy.close();
  log.info('relay.stopped', { exit_code: code });
  log.close();
  lock.release();
  process.exit(code);
}

function keepPlane(config: Config, log: PinoLog): PlaneKeeper {
  return new PlaneKeeper(config, {
    log,
    fork: forkPlane,
    now: steadyMs,
    setTimer(ms, fire) {
      const timer = setTimeout(fire, ms);
      return { cancel: () => clearTimeout(timer) };
    },
  });
}

/** The relay's life with that of the HTTP plane, which answers until the relay is stopped. */
function withPlane(relay: Drainable, plane: PlaneKeeper): Drainable {
  return {
    drain: () => relay.drain(),
    stop: async () => {
      await Promise.all([relay.stop(), plane.stop()]);
    },
    reload: async (next) => {
      const reloaded = await relay.reload(next);
      return { ...reloaded, problems: [...(reloaded.problems ?? []), ...(await plane.reload(next))] };
    },
    reopenLog: () => relay.reopenLog(),
  };
}

/** The only relay process is this one: when it crashes, it is for whoever started it to start it again. */
async function startAlone(context: Context): Promise<Serving> {
  const { config, configPath, log, serviceManager } = context;
  const { startRelay } = await import('./relay/relay.ts');
  const { takeNamed } = await import('./listener/sockets.ts');
  const { mapSharedMemory, socketPlace } = await import('./native.ts');
  const { openPolicyMemory } = await import('./policy/host-memory.ts');
  const sockets = config.listeners.flatMap(({ fd_name: name }, listener) =>
    name === undefined ? [] : takeNamed(name, listener, 1, serviceManager.sockets, { socketPlace }),
  );
  const { onlyPlace } = await import('./relay/place.ts');
  const place = onlyPlace(config, sockets);
  const memory = openPolicyMemory(place.policy, mapSharedMemory);
  const policy = await openHostPolicy({ ...context, memory });
  const relay = await startRelay({ config, configPath, log, version: version(), place });
  // Its main thread is this one: when we can be asked at all, it is healthy.
  return Object.assign(relay, { healthy: () => true, policy });
}

async function startSupervisor(context: Context, processes: number, leftovers: number[]): Promise<Serving> {
  const { config, configPath, log, serviceManager } = context;
  const { createSharedMemory, mapSharedMemory, openSocket, socketPlace } = await import('./native.ts');
  const { closeSockets, openSockets } = await import('./listener/sockets.ts');
  const { initializePolicyMemory, PolicyMemory, policyMemoryBytes, policySizes } = await import(
    './policy/host-memory.ts'
  );
  const { MergedQueue, mergeJournals, mergeSchedulerStats } = await import('./control/merged-queue.ts');
  const { mergeReports } = await import('./egress/source-report.ts');
  const { mergeStandings } = await import('./control/why.ts');
  const { mergeStatus } = await import('./control/status.ts');
  const { Supervisor } = await import('./supervisor/supervisor.ts');
  const { default: cluster } = await import('node:cluster');
  const ports = { openSocket, socketPlace, close: closeSync };
  const sockets = await openSockets(config.listeners, processes, serviceManager.sockets, ports);
  const sizes = policySizes(config, processes);
  const fd = createSharedMemory(policyMemoryBytes(sizes));
  const shared = mapSharedMemory(fd, policyMemoryBytes(sizes));
  initializePolicyMemory(shared, sizes, randomInt(2 ** 31));
  const memory = new PolicyMemory(shared, sizes, 0);
  const policy = await openHostPolicy({ ...context, memory });
  log.info('supervisor.starting', { processes, leftovers });
  const supervisor = new Supervisor({
    config,
    configPath,
    processes,
    leftovers,
    sockets,
    memory: fd,
    log,
    rollup: {
      queue: (readers) => new MergedQueue(readers),
      scheduler: mergeSchedulerStats,
      journal: mergeJournals,
      standing: mergeStandings,
      sources: mergeReports,
      status: mergeStatus,
    },
    fork: (fds, events) => forkRelayProcess(cluster, fds, events),
    closeSockets: () => closeSockets(sockets, config.listeners, ports),
    clearCounts: (number) => memory.clearProcess(number),
    now: steadyMs,
    timeOfDay: timeOfDayMs,
    setTimer(ms, fire) {
      const timer = setTimeout(fire, ms);
      return { cancel: () => clearTimeout(timer) };
    },
  });
  await supervisor.start();
  return Object.assign(supervisor, { policy });
}

/** Forks a relay process. setupPrimary sets what the next fork of node:cluster uses. */
function forkRelayProcess(cluster: Cluster, fds: readonly number[], events: ForkEvents): Forked {
  cluster.setupPrimary({
    exec: RELAY_PROCESS,
    args: [],
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...fds],
  });
  const worker = cluster.fork();
  const child = worker.process;
  const exited = new Promise<[number | null, string | null]>((resolve) => {
    child.once('exit', (code, signal) => resolve([code, signal]));
    // Without a pid it could not be started. Other errors come from messages to a process that just ended: see `exit`.
    worker.on('error', () => {
      if (child.pid === undefined) resolve([null, 'a failed start']);
    });
  });
  // All its messages are read once the channel is closed.
  const heard = new Promise<void>((resolve) => {
    if (child.pid === undefined) resolve();
    child.once('disconnect', resolve);
  });
  worker.on('message', (message: FromProcess) => events.message(message));
  void Promise.all([exited, heard]).then(([[code, signal]]) => events.exit(code, signal));
  return {
    pid: child.pid ?? 0,
    send: (message) => {
      if (worker.isConnected()) worker.send(message);
    },
    kill: (signal) => void child.kill(signal),
  };
}

const addressText = ({ host, port, path }: ListeningAddress): string =>
  path ?? (host?.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);

/** Shows at a terminal that the relay listens, wherever the log goes. */
function announce(config: Config, addresses: { host?: string; port?: number; path?: string }[]): void {
  if (!process.stderr.isTTY || (config.log.file === null && config.log.format === 'text')) return;
  const places = addresses.map(addressText);
  sayAtOnce(
    `protorelay: listening on ${places.join(', ')}${config.log.file ? `; log: ${config.log.file}` : ''}\n`,
  );
}
