/**
 * Keeps the HTTP plane running in a process of its own: starts it again, each time after a longer delay, kills it when it
 * hangs, starts it anew with a new config. Mail never waits for it.
 */
import { isDeepStrictEqual } from 'node:util';
import { type ErrorCode, RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { FromPlane, ToPlane } from './plane-messages.ts';

export interface ForkedPlane {
  readonly pid: number;
  send(message: ToPlane): void;
  kill(signal: NodeJS.Signals): void;
}

export interface PlaneEvents {
  message(message: FromPlane): void;
  exit(code: number | null, signal: string | null): void;
}

export interface PlaneKeeperPorts {
  log: Log;
  fork(events: PlaneEvents): ForkedPlane;
  /** Steady time. */
  now(): number;
  setTimer(ms: number, fire: () => void): { cancel(): void };
}

const PING_MS = 1000;
/** As for relay processes: silence while the keeper itself stood still is none. */
const MAX_PING_GAP_MS = 2000;
/** How long it may take to end its requests before it is killed. */
const STOP_MS = 6000;

export class PlaneKeeper {
  readonly #ports: PlaneKeeperPorts;
  #config: Config;
  #forked: ForkedPlane | null = null;
  #wanted = false;
  #answers = false;
  #silentMs = 0;
  #lastPingMs = 0;
  #readySinceMs: number | null = null;
  #crashes = 0;
  #failure: RelayError | null = null;
  #restart: { cancel(): void } | null = null;
  #pings: { cancel(): void } | null = null;
  #onReady: () => void = () => {};
  #onGone: (error: RelayError) => void = () => {};
  #changing: Promise<unknown> = Promise.resolve();

  constructor(config: Config, ports: PlaneKeeperPorts) {
    this.#config = config;
    this.#ports = ports;
  }

  /** @throws RelayError when it cannot start; then it is not tried again. */
  async start(): Promise<void> {
    if (!this.#config.http.enabled) return;
    try {
      await this.#begin();
    } catch (error) {
      this.#wanted = false;
      this.#restart?.cancel();
      throw error;
    }
  }

  /**
   * Starts it anew where the config of it is another one.
   * @returns why it does not serve; then it is tried again.
   */
  reload(next: Config): Promise<string[]> {
    const changed = this.#changing.then(() => this.#reload(next));
    this.#changing = changed.catch(() => {});
    return changed;
  }

  async #reload(next: Config): Promise<string[]> {
    const before = this.#config;
    this.#config = next;
    if (isDeepStrictEqual(partsOf(before), partsOf(next))) return [];
    await this.#end();
    if (!next.http.enabled) return [];
    try {
      await this.#begin();
      return [];
    } catch (error) {
      return [(error as Error).message];
    }
  }

  reopenLog(): void {
    this.#forked?.send({ type: 'reopen-log' });
  }

  stop(): Promise<void> {
    const ended = this.#changing.then(() => this.#end());
    this.#changing = ended;
    return ended;
  }

  #begin(): Promise<void> {
    this.#wanted = true;
    this.#crashes = 0;
    return new Promise((resolve, reject) => {
      this.#onReady = resolve;
      this.#onGone = reject;
      this.#fork();
    });
  }

  #end(): Promise<void> {
    this.#wanted = false;
    this.#restart?.cancel();
    if (this.#forked === null) return Promise.resolve();
    return new Promise((resolve) => {
      const late = this.#ports.setTimer(STOP_MS, () => this.#forked?.kill('SIGKILL'));
      this.#onGone = () => {
        late.cancel();
        resolve();
      };
      this.#forked?.send({ type: 'stop' });
    });
  }

  #fork(): void {
    this.#answers = false;
    this.#failure = null;
    this.#forked = this.#ports.fork({
      message: (message) => this.#take(message),
      exit: (code, signal) => this.#exited(code, signal),
    });
    this.#pingLater();
  }

  #take(message: FromPlane): void {
    switch (message.type) {
      case 'booted':
        this.#answers = true;
        this.#heard();
        this.#forked?.send(this.#wanted ? { type: 'start', config: this.#config } : { type: 'stop' });
        break;
      case 'ready':
        this.#readySinceMs = this.#ports.now();
        this.#onReady();
        this.#onGone = () => {};
        break;
      case 'failed':
        this.#failure = new RelayError(message.code as ErrorCode, message.message);
        break;
      case 'pong':
        this.#heard();
        break;
      default:
        message satisfies never;
    }
  }

  #heard(): void {
    this.#silentMs = 0;
    this.#lastPingMs = this.#ports.now();
  }

  #pingLater(): void {
    this.#pings?.cancel();
    this.#pings = this.#ports.setTimer(PING_MS, () => {
      if (this.#forked === null) return;
      this.#ping(this.#forked);
      this.#pingLater();
    });
  }

  #ping(forked: ForkedPlane): void {
    if (!this.#answers) return;
    const nowMs = this.#ports.now();
    this.#silentMs += Math.min(nowMs - this.#lastPingMs, MAX_PING_GAP_MS);
    this.#lastPingMs = nowMs;
    if (this.#silentMs >= this.#config.supervisor.hang_timeout_ms) {
      this.#ports.log.error('http.hangs', { pid: forked.pid, silent_ms: this.#silentMs });
      forked.kill('SIGKILL');
    } else forked.send({ type: 'ping' });
  }

  #exited(code: number | null, signal: string | null): void {
    const pid = this.#forked?.pid ?? 0;
    const ranMs = this.#readySinceMs === null ? 0 : this.#ports.now() - this.#readySinceMs;
    this.#forked = null;
    this.#readySinceMs = null;
    this.#pings?.cancel();
    const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
    if (this.#wanted) this.#startLater(ranMs, { pid, exit_code: code, signal });
    this.#onGone(this.#failure ?? new RelayError('control_failed', `the HTTP plane ${how}`));
    this.#onGone = () => {};
  }

  #startLater(ranMs: number, ended: { pid: number; exit_code: number | null; signal: string | null }): void {
    const { restart_delay_ms: first, max_restart_delay_ms: most } = this.#config.supervisor;
    if (ranMs >= most) this.#crashes = 0;
    const delayMs = Math.min(most, first * 2 ** Math.min(30, this.#crashes));
    this.#crashes++;
    this.#ports.log.error('http.ended', { ...ended, restart_in_ms: delayMs });
    this.#restart = this.#ports.setTimer(delayMs, () => this.#fork());
  }
}

/** What the plane goes by. */
const partsOf = ({ http, metrics, hostname, log, tls, delivery, data_dir }: Config): unknown => [
  http,
  metrics,
  hostname,
  log,
  tls.min_version,
  tls.watch_interval_ms,
  // Whose end /metrics tells.
  tls.cert_file,
  tls.certificates,
  delivery.tls.cert_file,
  data_dir,
];
