/** Runs one relay from start to exit code: log, control socket and signals around what relay.ts builds. */
import { join } from 'node:path';
import { RelayError } from './base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from './base/exit-codes.ts';
import { PinoLog } from './base/pino-log.ts';
import { loadConfig } from './config/load.ts';
import type { Config } from './config/schema.ts';
import { Lifecycle } from './control/lifecycle.ts';
import { ControlServer } from './control/server.ts';
import { buildInfo, version } from './version.ts';

/**
 * Signals from the first moment on; those that come while the relay starts wait for it. Early also because SIGUSR1
 * without a listener opens Node's debugger (and with --disable-sigusr1 no listener ever hears it).
 */
class Signals {
  readonly #early: NodeJS.Signals[] = [];
  #lifecycle: Lifecycle | null = null;

  constructor() {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'] as const)
      process.on(signal, () => this.#on(signal));
  }

  deliverTo(lifecycle: Lifecycle): void {
    this.#lifecycle = lifecycle;
    for (const signal of this.#early) this.#on(signal);
  }

  #on(signal: NodeJS.Signals): void {
    if (this.#lifecycle === null) this.#early.push(signal);
    else if (signal === 'SIGHUP') this.#lifecycle.reload();
    else if (signal === 'SIGUSR1') this.#lifecycle.reopenLog();
    else this.#lifecycle.terminate(signal);
  }
}

/** @throws RelayError when the relay cannot start. */
export async function runRelay(configPath: string): Promise<ExitCode> {
  const signals = new Signals();
  const { config, warnings } = loadConfig(configPath);
  const log = openLog(config);
  // A fault of our own: the queue is safe on disk, and going on in an unknown state is the worse risk.
  const crash = (error: unknown): never => {
    log.error('relay.crashed', { error });
    process.stderr.write(`protorelay: crashed: ${(error as Error)?.stack ?? String(error)}\n`);
    process.exit(EXIT.software);
  };
  process.on('uncaughtException', crash).on('unhandledRejection', crash);
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
    log.error('relay.start-failed', { error });
    if (!(error instanceof RelayError)) return crash(error);
    // Threads that did start are still running: end them with the program.
    process.stderr.write(`protorelay: ${error.message}\n`);
    process.exit(EXIT_OF_ERROR[error.code]);
  } finally {
    log.close();
  }
}

function openLog(config: Config): PinoLog {
  try {
    return new PinoLog(config.log);
  } catch (error) {
    const text = `the log file ${config.log.file} cannot be opened: ${(error as Error).message}`;
    throw new RelayError('data-dir-unusable', text, error);
  }
}

async function serve(first: Config, configPath: string, log: PinoLog, signals: Signals): Promise<ExitCode> {
  let config = first;
  const { startRelay } = await import('./relay.ts');
  const relay = await startRelay({ config, configPath, log, version: version() });
  const control = await ControlServer.start({
    path: join(config.data_dir, 'control.sock'),
    target: relay.control,
    log,
  });
  const lifecycle = new Lifecycle(relay, {
    log,
    graceMs: () => config.shutdown_grace_ms,
    load: () => loadConfig(configPath),
    reloaded: (next) => {
      config = next;
      log.setLevel(next.log.level);
    },
    reopenLog: () => log.reopen(),
    now: Date.now,
  });
  log.info('relay.ready', { addresses: relay.addresses, hostname: config.hostname });
  announce(config, relay.addresses);
  signals.deliverTo(lifecycle);
  const code = await lifecycle.ended;
  await control.close();
  log.info('relay.stopped', { code });
  log.close();
  process.exit(code);
}

/** Whoever starts the relay at a terminal sees that it listens, wherever the log goes. */
function announce(config: Config, addresses: { host?: string; port?: number; path?: string }[]): void {
  if (!process.stderr.isTTY || (config.log.file === null && config.log.format === 'text')) return;
  const places = addresses.map(({ host, port, path }) => path ?? `${host}:${port}`);
  process.stderr.write(
    `protorelay: listening on ${places.join(', ')}${config.log.file ? `; log: ${config.log.file}` : ''}\n`,
  );
}
