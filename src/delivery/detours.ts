/**
 * Attempts that one host did not take, and another host of the destination may take (RFC 5321 §5.1: every host and
 * address is tried). Decides whether another host is worth trying, keeps the attempts until a session with such a host
 * takes them, and sees to it that there is one. Bounded by what the scheduler hands over.
 */
import type { Config } from '../config/schema.ts';
import type { Job } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import type { Attempt } from './attempt.ts';
import type { ClientSession } from './client/session.ts';
import type { HostChoice } from './host-choice.ts';
import { deferred } from './outcome.ts';

export interface DetourPorts {
  readonly rules: Config['delivery'];
  readonly draining: boolean;
  readonly sessions: Iterable<ClientSession>;
  readonly idle: readonly ClientSession[];
  /** A limit lets nothing through now; `pump` is called when it does. */
  readonly heldBack: boolean;
  /** A peer gets too much: nothing begins for a while. */
  paused(): boolean;
  /** Number of connections that are ending. */
  readonly closing: number;
  /** Whether a connection for one of them is being opened. */
  readonly dialling: boolean;
  now(): number;
  /** Has an idle session look for work. */
  wake(session: ClientSession): void;
  /** Asks that `pump` is called again after delivery.backlog_wait_ms. */
  waits(): void;
  /** Whether one more connection may be opened. */
  mayDial(): boolean;
  /** And now, not behind other destinations; else `pump` is called again. */
  isTurn(): boolean;
  /** Opens a connection to another host than these. */
  dial(avoid: readonly string[]): void;
  finished(attempt: Attempt): void;
}

/** How many of the attempts that wait are looked at for one session. */
const MOST_LOOKED_AT = 16;

export class Detours {
  readonly #ports: DetourPorts;
  readonly #hosts: HostChoice;
  readonly #waiting: Attempt[] = [];
  #dialledAtMs = 0;

  constructor(ports: DetourPorts, hosts: HostChoice) {
    this.#ports = ports;
    this.#hosts = hosts;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** A host has taken what it could of the attempt: the rest waits here for another host, or is finished. */
  take(attempt: Attempt, address: string): void {
    attempt.tried = [...attempt.tried, address];
    if (attempt.offered) attempt.visits++;
    attempt.offered = false;
    if (!this.#isWorthwhile(attempt)) {
      this.#settle(attempt, null);
      return;
    }
    attempt.tryElsewhere();
    this.#waiting.push(attempt);
    this.pump();
  }

  /** The attempt came back from a session that could not do anything with it. */
  back(attempt: Attempt): void {
    this.#waiting.unshift(attempt);
  }

  /** The next attempt for a session with this host; null when there is none. */
  next(address: string): Attempt | null {
    const looked = Math.min(MOST_LOOKED_AT, this.#waiting.length);
    for (let i = 0; i < looked; i++) {
      if ((this.#waiting[i] as Attempt).tried.includes(address)) continue;
      return this.#waiting.splice(i, 1)[0] as Attempt;
    }
    return null;
  }

  /** Gives attempts to idle sessions with other hosts; then opens connections to such hosts, one after another. */
  pump(): void {
    const { idle, rules } = this.#ports;
    let first = this.#waiting[0];
    // Sessions that are woken in a pause find nothing to do, and would be woken again without an end.
    if (first !== undefined && this.#ports.paused()) {
      this.#ports.waits();
      return;
    }
    while (first !== undefined && !this.#ports.heldBack) {
      const { tried } = first;
      const session = idle.find(({ host }) => !tried.includes(host.address));
      if (session === undefined) break;
      this.#ports.wake(session);
      first = this.#waiting[0];
    }
    if (first === undefined || this.#ports.dialling || this.#ports.heldBack) return;
    const { tried } = first;
    let suited = 0;
    for (const { retiring, host } of this.#ports.sessions)
      if (!retiring && !tried.includes(host.address)) suited++;
    if (suited > 0) {
      this.#ports.waits();
      const wished = Math.min(Math.ceil(this.#waiting.length / rules.backlog_per_connection), suited * 2);
      if (suited >= wished && this.#ports.now() - this.#dialledAtMs < rules.backlog_wait_ms) return;
    }
    if (!this.#ports.mayDial()) {
      this.#makeRoom(tried);
      return;
    }
    if (!this.#ports.isTurn()) return;
    this.#dialledAtMs = this.#ports.now();
    this.#ports.dial(tried);
  }

  /** Ends a session with one of these hosts, because another host is wanted and no more connections are allowed. */
  #makeRoom(addresses: readonly string[]): void {
    if (this.#ports.closing > 0) return;
    const { idle, sessions } = this.#ports;
    const isThere = ({ host }: ClientSession) => addresses.includes(host.address);
    const resting = idle.find(isThere);
    if (resting !== undefined) {
      resting.quit();
      return;
    }
    for (const { retiring } of sessions) if (retiring) return;
    for (const session of sessions) {
      if (!isThere(session)) continue;
      session.retiring = true;
      return;
    }
  }

  /** No session came about for the first attempt: it is finished, and so are others that have no other host left. */
  unreachable(outcome: Outcome | null): void {
    const [first, ...others] = this.#waiting.splice(0);
    if (first !== undefined) this.#settle(first, outcome);
    for (const attempt of others) {
      if (this.#hosts.hasOthers(attempt.tried)) this.#waiting.push(attempt);
      else this.#settle(attempt, outcome);
    }
  }

  /** Finishes all of them that are meant: no other host is tried. */
  finishAll(isMeant: (job: Job) => boolean = () => true): void {
    for (const attempt of this.#waiting.splice(0))
      if (isMeant(attempt.job)) this.#settle(attempt, null);
      else this.#waiting.push(attempt);
  }

  #isWorthwhile(attempt: Attempt): boolean {
    const { rules, draining } = this.#ports;
    if (draining || attempt.visits >= rules.max_hosts_per_attempt) return false;
    const spentMs = attempt.startedAtMs === 0 ? 0 : this.#ports.now() - attempt.startedAtMs;
    return spentMs < rules.max_attempt_ms && this.#hosts.hasOthers(attempt.tried);
  }

  /**
   * Finishes the attempt with the outcomes that the hosts gave. But if a message does not fit one host, it does not
   * bounce while there are other hosts that may take it.
   */
  #settle(attempt: Attempt, unreachable: Outcome | null): void {
    const others = this.#hosts.namesOthers(attempt.tried);
    attempt.settle((outcome) => {
      if (outcome.kind !== 'bounced' || !others) return outcome;
      if (unreachable !== null) return unreachable.kind === 'deferred' ? unreachable : outcome;
      return deferred('connect_failed', null, `${outcome.detail}; other hosts are not reached`);
    });
    this.#ports.finished(attempt);
  }
}
