/**
 * The protocols of systemd, without its library: sockets that it opened (sd_listen_fds(3)), readiness and the watchdog
 * (sd_notify(3)). Without systemd nothing is done.
 */
import type { Log } from '../base/log.ts';

/** systemd passes descriptors from 3 on. */
const FIRST_FD = 3;

export interface ServiceManagerPorts {
  environment: Record<string, string | undefined>;
  pid: number;
  log: Log;
  sendDatagram(path: string, text: string): void;
  monotonicUs(): bigint;
  setInterval(ms: number, fire: () => void): { cancel(): void };
}

type State = 'ready' | 'reloading' | 'stopping';

export class ServiceManager {
  /** Listening sockets by the name that their unit gives them ('unknown' when it gives none). */
  readonly sockets: ReadonlyMap<string, readonly number[]>;
  readonly #ports: ServiceManagerPorts;
  readonly #notifySocket: string | null;
  readonly #watchdogMs: number | null;
  #watchdog: { cancel(): void } | null = null;
  #failed = false;

  /** Removes systemd's variables from the environment: they are not meant for the processes that this one starts. */
  constructor(ports: ServiceManagerPorts) {
    this.#ports = ports;
    const take = (name: string): string | undefined => {
      const value = ports.environment[name];
      delete ports.environment[name];
      return value;
    };
    this.#notifySocket = take('NOTIFY_SOCKET') || null;
    const watchdogUs = Number(take('WATCHDOG_USEC'));
    const isForUs = [undefined, String(ports.pid)].includes(take('WATCHDOG_PID'));
    this.#watchdogMs = isForUs && watchdogUs > 0 ? watchdogUs / 1000 : null;
    const [listenPid, count, names] = [
      take('LISTEN_PID'),
      Number(take('LISTEN_FDS')),
      take('LISTEN_FDNAMES'),
    ];
    this.sockets = listenPid === String(ports.pid) && count > 0 ? byName(count, names) : new Map();
  }

  tell(state: State): void {
    switch (state) {
      case 'ready':
        this.#send('READY=1');
        break;
      case 'reloading':
        this.#send(`RELOADING=1\nMONOTONIC_USEC=${this.#ports.monotonicUs()}`);
        break;
      case 'stopping':
        this.#watchdog?.cancel();
        // Our draining is bounded by shutdown_grace_ms, and systemd's patience by TimeoutStopSec.
        this.#send('STOPPING=1');
        break;
    }
  }

  /** Sets the line that `systemctl status` shows. */
  status(text: string): void {
    this.#send(`STATUS=${text}`);
  }

  /** Tells the watchdog twice per interval that all is well, as long as it is. */
  feedWatchdog(healthy: () => boolean): void {
    if (this.#watchdogMs === null) return;
    this.#watchdog = this.#ports.setInterval(this.#watchdogMs / 2, () => {
      if (healthy()) this.#send('WATCHDOG=1');
      else
        this.#ports.log.warn('watchdog.not_fed', {
          advice: 'a relay process does not answer, or none serves',
        });
    });
  }

  #send(text: string): void {
    if (this.#notifySocket === null) return;
    try {
      this.#ports.sendDatagram(this.#notifySocket, text);
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#ports.log.warn('service_manager.unreachable', { error });
      this.#failed = true;
    }
  }
}

function byName(count: number, names: string | undefined): Map<string, number[]> {
  const given = (names ?? '').split(':');
  const sockets = new Map<string, number[]>();
  for (let i = 0; i < count; i++) {
    const name = given[i] || 'unknown';
    sockets.set(name, [...(sockets.get(name) ?? []), FIRST_FD + i]);
  }
  return sockets;
}
