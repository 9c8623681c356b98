/**
 * A running relay between signals: SIGTERM and SIGINT drain it, a second one stops it now; SIGHUP reloads the
 * config, SIGUSR1 reopens log files. Ends with an exit code; never ends the program itself.
 */
import { BrokenInvariant } from '../base/broken-invariant.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import type { Log } from '../base/log.ts';
import type { ConfigError, LoadedConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import type { ReloadAnswer } from './protocol.ts';

interface Reloaded {
  applied: string[];
  needsRestart: string[];
  /** What could not be used (a certificate) and stays as it was. */
  problems?: string[];
}

/** What a relay offers, or the supervisor of several processes, as far as signals need it. */
export interface Drainable {
  /** No new mail; resolves when what was open is finished. */
  drain(): Promise<void>;
  /** Ends now; resolves when everything is closed. Called once, after drain or instead of waiting for it. */
  stop(): Promise<void>;
  reload(config: Config): Reloaded | Promise<Reloaded>;
  reopenLog(): void;
}

export interface LifecyclePorts {
  log: Log;
  graceMs(): number;
  /** Loads the config file anew; throws ConfigError. */
  load(): LoadedConfig;
  /** After a good reload: what main itself uses (log level, grace). */
  reloaded(config: Config): void;
  /** Reopens main's own log. */
  reopenLog(): void;
  /** What the service manager wants to know. */
  tell(state: 'ready' | 'reloading' | 'stopping'): void;
  now(): number;
}

/** npm may repeat Ctrl-C, which the terminal sends to both: a signal this soon after the first is the same one. */
const REPEAT_MS = 300;
/** How long stop() may take before the program ends without it; whatever is durable stays so. */
const STOP_MS = 10_000;

export class Lifecycle {
  readonly #ports: LifecyclePorts;
  readonly #relay: Drainable;
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
    } else if (now() - this.#firstSignalMs >= REPEAT_MS) {
      log.warn('relay.stopping-now', { signal });
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
        log.error('relay.drain-failed', { error });
        return 'failed';
      },
    );
    const how = await Promise.race([drained, second, after(this.#ports.graceMs(), 'grace-over')]);
    if (how === 'grace-over') log.warn('relay.grace-over', { grace_ms: this.#ports.graceMs() });
    const stopped = this.#relay.stop().then(
      () => 'stopped',
      (error: unknown) => {
        log.error('relay.stop-failed', { error });
        return 'failed';
      },
    );
    const ending = await Promise.race([stopped, after(STOP_MS, 'late')]);
    for (const timer of timers) clearTimeout(timer);
    if (ending === 'late') log.error('relay.stop-late', { waited_ms: STOP_MS });
    this.#end(ending === 'stopped' && how !== 'failed' ? EXIT.ok : EXIT.software);
  }

  /** SIGHUP: a good config applies as far as it can live; a bad one changes nothing. */
  async reload(): Promise<ReloadAnswer> {
    const { log, tell } = this.#ports;
    if (this.#firstSignalMs !== null)
      return { applied: [], needsRestart: [], problems: ['the relay is shutting down'] };
    tell('reloading');
    let loaded: LoadedConfig;
    try {
      loaded = this.#ports.load();
    } catch (error) {
      const problems = (error as Partial<ConfigError>).problems ?? [(error as Error).message];
      log.error('relay.reload-refused', { problems });
      tell('ready');
      return { applied: [], needsRestart: [], problems };
    }
    for (const warning of loaded.warnings) log.warn('config.warning', { warning });
    let reloaded: Awaited<ReturnType<Drainable['reload']>>;
    try {
      reloaded = await this.#relay.reload(loaded.config);
    } catch (error) {
      if (error instanceof BrokenInvariant) throw error;
      log.error('relay.reload-failed', { error });
      if (this.#firstSignalMs === null) tell('ready');
      return { applied: [], needsRestart: [], problems: [(error as Error).message] };
    }
    const { applied, needsRestart, problems = [] } = reloaded;
    this.#ports.reloaded(loaded.config);
    log.info('relay.reloaded', { applied, needs_restart: needsRestart });
    if (this.#firstSignalMs === null) tell('ready');
    return { applied, needsRestart, problems };
  }

  /** SIGUSR1: log and event files were moved away. */
  reopenLog(): void {
    this.#ports.reopenLog();
    this.#relay.reopenLog();
    this.#ports.log.info('relay.log-reopened');
  }
}
