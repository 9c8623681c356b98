/**
 * A running relay between signals: SIGTERM and SIGINT drain it, a second one stops it now; SIGHUP reloads the
 * config, SIGUSR1 reopens log files. Ends with an exit code; never ends the program itself.
 */
import { BrokenInvariant } from '../base/broken-invariant.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import type { Log } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { ConfigError, LoadedConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import type { ReloadAnswer } from './protocol.ts';
import type { HostFacts } from './status.ts';

interface Reloaded {
  applied: string[];
  needsRestart: string[];
  /** What could not be used, such as a certificate; the old one stays in use. */
  problems?: string[];
}

/** What signals need of a relay, or of the supervisor of several. */
export interface Drainable {
  /** No new mail; resolves when what was open is finished. */
  drain(): Promise<void>;
  /** Ends now; resolves when everything is closed. Called once, after the drain or when it is not waited for any more. */
  stop(): Promise<void>;
  reload(config: Config): Reloaded | Promise<Reloaded>;
  reopenLog(): void;
}

export interface LifecyclePorts {
  log: Log;
  graceMs(): number;
  /** Loads the config file anew; throws ConfigError. */
  load(): LoadedConfig | Promise<LoadedConfig>;
  /** Called after a good reload, for what main itself uses (log level, grace). */
  reloaded(config: Config): void;
  /** Reopens main's own log. */
  reopenLog(): void;
  /** Tells the service manager. */
  tell(state: 'ready' | 'reloading' | 'stopping'): void;
  now(): number;
}

/** A signal this soon after the first is the same one: the terminal sends Ctrl-C to npm too, and npm may pass it on. */
const SAME_SIGNAL_MS = 300;
/** When stop() takes longer, the program ends without it; whatever is durable stays so. */
const STOP_TIMEOUT_MS = 10_000;

export class Lifecycle {
  readonly #ports: LifecyclePorts;
  readonly #relay: Drainable;
  lastReload: HostFacts['reload'] = null;
  #firstSignalMs: number | null = null;
  #stopNow: () => void = () => {};
  readonly #ended: Promise<ExitCode>;
  #end: (code: ExitCode) => void = () => {};

  constructor(relay: Drainable, ports: LifecyclePorts) {
    this.#relay = relay;
    this.#ports = ports;
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Resolves with the exit code once the relay is stopped. */
  get ended(): Promise<ExitCode> {
    return this.#ended;
  }

  /** SIGTERM or SIGINT. */
  terminate(signal: string): void {
    const { log, now } = this.#ports;
    if (this.#firstSignalMs === null) {
      this.#firstSignalMs = now();
      this.#ports.tell('stopping');
      log.info('relay.draining', { signal, grace_ms: this.#ports.graceMs() });
      void this.#shutDown();
    } else if (now() - this.#firstSignalMs >= SAME_SIGNAL_MS) {
      log.warn('relay.stopping_now', { signal });
      this.#stopNow();
    }
  }

  async #shutDown(): Promise<void> {
    const { log } = this.#ports;
    const timers: NodeJS.Timeout[] = [];
    const after = (ms: number, what: string): Promise<string> =>
      new Promise((resolve) => timers.push(setTimeout(() => resolve(what), ms)));
    const second = new Promise<string>((resolve) => {
      this.#stopNow = () => resolve('signal');
    });
    const drained = this.#relay.drain().then(
      () => 'drained',
      (error: unknown) => {
        log.error('relay.drain_failed', { error });
        return 'failed';
      },
    );
    const how = await Promise.race([drained, second, after(this.#ports.graceMs(), 'grace-over')]);
    if (how === 'grace-over') log.warn('relay.grace_over', { grace_ms: this.#ports.graceMs() });
    const stopped = this.#relay.stop().then(
      () => 'stopped',
      (error: unknown) => {
        log.error('relay.stop_failed', { error });
        return 'failed';
      },
    );
    const ending = await Promise.race([stopped, after(STOP_TIMEOUT_MS, 'late')]);
    for (const timer of timers) clearTimeout(timer);
    if (ending === 'late') log.error('relay.stop_late', { waited_ms: STOP_TIMEOUT_MS });
    this.#end(ending === 'stopped' && how !== 'failed' ? EXIT.ok : EXIT.software);
  }

  /** SIGHUP: of a good config, what can change live is applied; a bad one changes nothing. */
  async reload(): Promise<ReloadAnswer> {
    const answer = await this.#reload();
    const { needsRestart, problems } = answer;
    this.lastReload = { atMs: timeOfDayMs(steadyMs()), needsRestart, problems };
    return answer;
  }

  async #reload(): Promise<ReloadAnswer> {
    const { log, tell } = this.#ports;
    if (this.#firstSignalMs !== null)
      return { applied: [], needsRestart: [], problems: ['the relay is shutting down'] };
    tell('reloading');
    let loaded: LoadedConfig;
    try {
      loaded = await this.#ports.load();
    } catch (error) {
      const problems = (error as Partial<ConfigError>).problems ?? [(error as Error).message];
      log.error('relay.reload_refused', { problems });
      tell('ready');
      // Nothing has changed: what waits for a restart since an earlier reload still does.
      return { applied: [], needsRestart: this.lastReload?.needsRestart ?? [], problems };
    }
    for (const warning of loaded.warnings) log.warn('config.warning', { warning });
    let reloaded: Awaited<ReturnType<Drainable['reload']>>;
    try {
      reloaded = await this.#relay.reload(loaded.config);
    } catch (error) {
      if (error instanceof BrokenInvariant) throw error;
      log.error('relay.reload_failed', { error });
      if (this.#firstSignalMs === null) tell('ready');
      return { applied: [], needsRestart: [], problems: [(error as Error).message] };
    }
    const { applied, needsRestart, problems = [] } = reloaded;
    this.#ports.reloaded(loaded.config);
    log.info('relay.reloaded', { applied, needs_restart: needsRestart });
    if (problems.length > 0) log.error('relay.reload_partial', { problems });
    if (this.#firstSignalMs === null) tell('ready');
    return { applied, needsRestart, problems };
  }

  /** SIGUSR1: log and event files were moved away. */
  reopenLog(): void {
    this.#ports.reopenLog();
    this.#relay.reopenLog();
    this.#ports.log.info('relay.log_reopened', {});
  }
}
