/**
 * One relay process as the supervisor sees it: its state, the questions to it under way, its restarts. Starts it again
 * after a crash, each time after a longer delay; kills it when it hangs. Decides nothing about the other processes.
 */
import { type ErrorCode, RelayError } from '../base/errors.ts';
import type { FieldsOf, Log } from '../base/log.ts';
import type { ProcessStatus } from '../control/target.ts';
import type { Missing } from '../database/database.ts';
import type { ListeningAddress } from '../listener/sockets.ts';
import type { FromProcess, ProcessStart, Question, Questions, ToProcess } from './messages.ts';

/** A forked program. */
export interface Forked {
  readonly pid: number;
  send(message: ToProcess): void;
  kill(signal: NodeJS.Signals): void;
}

export interface ForkEvents {
  message(message: FromProcess): void;
  exit(code: number | null, signal: string | null): void;
}

export interface ChildPorts {
  log: Log;
  fork(events: ForkEvents): Forked;
  /** The first message of each life. */
  start(): ProcessStart;
  timing(): { restartDelayMs: number; maxRestartDelayMs: number; hangTimeoutMs: number };
  /** Steady time. */
  now(): number;
  /** The time of day at a steady time; default: the same number. */
  timeOfDay?(atMs: number): number;
  setTimer(ms: number, fire: () => void): { cancel(): void };
  /** Called when state or readiness changed. */
  changed(): void;
  /** It learned something of limits that the others are to know. */
  learned(lines: readonly string[]): void;
  /** Called when the process ended, whatever the reason; its connections are gone. */
  ended(): void;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: RelayError): void;
}

/** After this long without an answer other processes accept for it, and the watchdog is not fed. */
const SILENT_MS = 5000;
/**
 * Of the time between two pings no more than this is silence of the process: longer, and it was the supervisor, or the whole
 * machine, that stood still. An answer may lie unread behind that time, and a healthy process must not be killed for it.
 */
const MAX_PING_GAP_MS = 2000;

export class Child {
  readonly process: number;
  readonly accepts: boolean;
  readonly #ports: ChildPorts;
  #state: ProcessStatus['state'] = 'starting';
  #forked: Forked | null = null;
  #timer: { cancel(): void } | null = null;
  #restarts = 0;
  /** Number of crashes in a row; the delay grows with it. */
  #crashes = 0;
  #wanted = true;
  #killed = false;
  #readySinceMs: number | null = null;
  /** It answers since it booted. */
  #answers = false;
  #silentMs = 0;
  #lastPingMs = 0;
  #connections = 0;
  #rssBytes = 0;
  #nextId = 1;
  readonly #waiting = new Map<number, Waiting>();
  #onReady: (addresses: ListeningAddress[]) => void = () => {};
  #onFailed: (error: RelayError) => void = () => {};
  #onGone: () => void = () => {};
  /** Why it cannot start, as it said before it ended. */
  #failure: RelayError | null = null;
  /** How its last life ended, if badly. */
  #badEnd: string | null = null;

  constructor(process: number, accepts: boolean, ports: ChildPorts) {
    this.process = process;
    this.accepts = accepts;
    this.#ports = ports;
  }

  get state(): ProcessStatus['state'] {
    return this.#state;
  }

  /**
   * Begins the first life. Rejects with a RelayError when the process ends before it is ready; then it is not tried
   * again.
   */
  start(): Promise<ListeningAddress[]> {
    return new Promise((resolve, reject) => {
      this.#onReady = resolve;
      this.#onFailed = (error) => {
        this.#wanted = false;
        reject(error);
      };
      this.#fork();
    });
  }

  status(): ProcessStatus {
    const running = this.#forked !== null;
    return {
      process: this.process,
      pid: this.#forked?.pid ?? null,
      state: this.#state,
      accepts: this.accepts,
      restarts: this.#restarts,
      readySinceMs: this.#timeOfDay(this.#readySinceMs),
      connections: running ? this.#connections : 0,
      rssMb: running ? Math.round(this.#rssBytes / 1_048_576) : 0,
    };
  }

  send(message: ToProcess): void {
    this.#forked?.send(message);
  }

  /** Names its queue as missing, for when it cannot be asked. */
  missing(): Missing {
    return { kind: 'process', name: `${this.process}`, detail: `is ${STATE_WORDS[this.#state]}` };
  }

  /** @throws RelayError 'control_failed' naming the process when it does not answer. */
  ask<K extends keyof Questions>(question: K, ask: Questions[K]['ask']): Promise<Questions[K]['answer']> {
    if (this.#state !== 'ready' && this.#state !== 'draining')
      return Promise.reject(this.#unreachable(`is ${STATE_WORDS[this.#state]}`));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as Questions[K]['answer']), reject });
      this.send({ type: 'ask', id, question, ask } as ToProcess & Question);
    });
  }

  /** Checks that it has answered lately, and asks again. Called every second. */
  ping(): void {
    if (this.#forked === null || !this.#answers) return;
    const nowMs = this.#ports.now();
    this.#silentMs += Math.min(nowMs - this.#lastPingMs, MAX_PING_GAP_MS);
    this.#lastPingMs = nowMs;
    const silentMs = this.#silentMs;
    const { hangTimeoutMs } = this.#ports.timing();
    if (silentMs >= hangTimeoutMs) {
      this.#ports.log.error('process.hangs', {
        process: this.process,
        pid: this.#forked.pid,
        silent_ms: silentMs,
      });
      this.#forked.kill('SIGKILL');
    } else if (silentMs >= SILENT_MS && this.#state === 'ready') {
      this.#ports.log.warn('process.silent', { process: this.process, silent_ms: silentMs });
      this.#become('silent');
    }
    this.send({ type: 'ping' });
  }

  /** Ends the process. Resolves when it has ended; rejects when it ended badly. */
  end(how: 'drain' | 'stop'): Promise<void> {
    this.#wanted = false;
    this.#timer?.cancel();
    if (this.#forked === null) this.#become('ended');
    else this.send({ type: how });
    return this.#ended().then(() => {
      if (this.#badEnd !== null) throw this.#unreachable(this.#badEnd);
    });
  }

  kill(): void {
    this.#wanted = false;
    this.#killed = true;
    this.#forked?.kill('SIGKILL');
  }

  #ended(): Promise<void> {
    if (this.#forked === null) return Promise.resolve();
    const before = this.#onGone;
    return new Promise((resolve) => {
      this.#onGone = () => {
        before();
        resolve();
      };
    });
  }

  #fork(): void {
    this.#failure = null;
    this.#badEnd = null;
    this.#answers = false;
    this.#connections = 0;
    this.#rssBytes = 0;
    this.#become('starting');
    const forked = this.#ports.fork({
      message: (message) => this.#take(message),
      exit: (code, signal) => this.#exited(code, signal),
    });
    this.#forked = forked;
  }

  #heard(): void {
    this.#silentMs = 0;
    this.#lastPingMs = this.#ports.now();
  }

  #take(message: FromProcess): void {
    switch (message.type) {
      case 'booted':
        this.#answers = true;
        this.#heard();
        this.send(this.#wanted ? { type: 'start', start: this.#ports.start() } : { type: 'stop' });
        break;
      case 'ready':
        this.#readySinceMs = this.#ports.now();
        this.#become('ready');
        this.#onReady(message.addresses);
        this.#onFailed = () => {};
        break;
      case 'failed':
        this.#failure = new RelayError(message.code as ErrorCode, message.message);
        break;
      case 'pong':
        this.#heard();
        this.#connections = message.connections;
        this.#rssBytes = message.rssBytes;
        if (this.#state === 'silent') this.#become('ready');
        break;
      case 'answer':
        this.#settle(message.id)?.resolve(message.value);
        break;
      case 'refusal':
        this.#settle(message.id)?.reject(new RelayError(message.code as ErrorCode, message.message));
        break;
      case 'draining':
        this.#become('draining');
        break;
      case 'learned':
        this.#ports.learned(message.lines);
        break;
      default:
        message satisfies never;
    }
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #timeOfDay(atMs: number | null): number | null {
    return atMs === null ? null : (this.#ports.timeOfDay?.(atMs) ?? atMs);
  }

  #exited(code: number | null, signal: string | null): void {
    const ended = { process: this.process, pid: this.#forked?.pid, exit_code: code, signal };
    const ranMs = this.#readySinceMs === null ? 0 : this.#ports.now() - this.#readySinceMs;
    this.#forked = null;
    this.#readySinceMs = null;
    const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
    if (code !== 0) this.#badEnd = how;
    for (const { reject } of this.#waiting.values()) reject(this.#unreachable(how));
    this.#waiting.clear();
    this.#ports.ended();
    this.#onFailed(this.#failure ?? this.#unreachable(`${how} while it started`));
    const finished = !this.accepts && code === 0;
    if (!this.#wanted || finished) {
      this.#wanted = false;
      this.#sayEnded(ended);
      this.#become('ended');
    } else this.#restartLater(ranMs, ended);
    this.#onGone();
  }

  #restartLater(ranMs: number, ended: FieldsOf<'process.ended'>): void {
    const { restartDelayMs, maxRestartDelayMs } = this.#ports.timing();
    if (ranMs >= maxRestartDelayMs) this.#crashes = 0;
    const delayMs = Math.min(maxRestartDelayMs, restartDelayMs * 2 ** Math.min(30, this.#crashes));
    this.#crashes++;
    this.#sayEnded({ ...ended, restart_in_ms: delayMs });
    this.#become('waiting');
    this.#timer = this.#ports.setTimer(delayMs, () => {
      this.#restarts++;
      this.#fork();
    });
  }

  /** That somebody ended it, or we did, is no fault. */
  #sayEnded(ended: FieldsOf<'process.ended'>): void {
    const { exit_code: code, signal } = ended;
    const onPurpose = code === 0 || this.#killed || signal === 'SIGTERM' || signal === 'SIGINT';
    if (onPurpose) this.#ports.log.info('process.ended', ended);
    else this.#ports.log.error('process.ended', ended);
  }

  #become(state: ProcessStatus['state']): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#ports.changed();
  }

  #unreachable(how: string): RelayError {
    return new RelayError('control_failed', `relay process ${this.process} ${how}`);
  }
}

const STATE_WORDS: Record<ProcessStatus['state'], string> = {
  starting: 'starting; try again when it is ready',
  ready: 'ready',
  silent: 'not answering; try again in a moment',
  waiting: 'down and starts again soon; try again then',
  draining: 'draining',
  ended: 'ended',
};
