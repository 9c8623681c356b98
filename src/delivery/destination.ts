/**
 * All that belongs to one destination: the attempts that are ready, its connections, and whether it is suspended.
 * Opens connections as the backlog asks, doubling at most, and one more where mail waits long; promises never to exceed the limits of the config and
 * that every attempt it takes is finished or handed back. Bounded by what the scheduler hands over.
 */
import type { Config } from '../config/schema.ts';
import type { Job } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import type { Arena } from '../native.ts';
import type { Attempt } from './attempt.ts';
import type { OwnerTls, SessionOwner } from './client/owner.ts';
import type { ClientSession } from './client/session.ts';
import type { Fault } from './client/state.ts';
import { Deque } from './deque.ts';
import type { DestinationPorts } from './destination-ports.ts';
import { bounced, deferred, internal, outcomeOf } from './outcome.ts';
import type { Host, Route } from './route.ts';
import { tlsPolicyOf } from './tls-policy.ts';

/** One try to get a session: DNS, then address after address. */
interface Dial {
  startedAtMs: number;
  hosts: Host[];
  next: number;
  session: ClientSession | null;
  fault: Fault | null;
}

/** More addresses of one destination are not remembered as failed. */
const MAX_FAILED = 64;

export class Destination implements SessionOwner {
  readonly key: string;
  recipientLimit = Number.POSITIVE_INFINITY;
  readonly #ports: DestinationPorts;
  readonly #ready = new Deque<Attempt>();
  readonly #sessions = new Set<ClientSession>();
  readonly #idle: ClientSession[] = [];
  readonly #dials = new Set<Dial>();
  readonly #dialOf = new Map<ClientSession, Dial>();
  #dialledAtMs = 0;
  /** Sessions that ended, until their connection is gone. */
  readonly #closing = new Set<ClientSession>();
  /** Connections that failed one after another. */
  #failures = 0;
  #suspendedUntilMs = 0;
  #suspendMs = 0;
  /** Connections there are to be, as far as limits allow. */
  #wished = 0;
  /** The peer grants no more connections than there are, until then. */
  #dialsPausedUntilMs = 0;
  /** Addresses that failed, and until when they are tried after the others. */
  readonly #failed = new Map<string, number>();
  #looksAhead = true;

  constructor(key: string, ports: DestinationPorts) {
    this.key = key;
    this.#ports = ports;
  }

  get arena(): Arena {
    return this.#ports.arena;
  }

  get rules(): Config['delivery'] {
    return this.#ports.config.delivery;
  }

  get ehloName(): string {
    return this.rules.ehlo_name ?? this.#ports.config.hostname;
  }

  get tls(): OwnerTls {
    const { broken, tlsSlot: slot, tlsSession: record } = this.#ports;
    return { policy: tlsPolicyOf(this.rules, this.key), broken, slot, record };
  }

  now(): number {
    return this.#ports.now();
  }

  outside(work: () => void): void {
    this.#ports.outside(work);
  }

  leaseHolds(job: Job): boolean {
    return this.#ports.leaseHolds(job);
  }

  /** Attempts not yet on a connection. */
  get backlog(): number {
    return this.#ready.length;
  }

  /** Nothing waits, nothing is open. */
  get empty(): boolean {
    return (
      this.#ready.length === 0 && this.#dials.size === 0 && this.#sessions.size + this.#closing.size === 0
    );
  }

  /** Nothing is remembered either. */
  get forgettable(): boolean {
    if (!this.empty) return false;
    if (this.#failures > 0 && this.#suspendedUntilMs + this.rules.suspend_ms > this.now()) return false;
    for (const untilMs of this.#failed.values()) if (untilMs > this.now()) return false;
    return true;
  }

  /** Takes an attempt; `pump` follows after the last of a batch. */
  accept(attempt: Attempt): void {
    if (this.#suspendedUntilMs > this.now()) this.#deferSuspended(attempt);
    else {
      attempt.readyAtMs = this.now();
      this.#ready.push(attempt);
    }
  }

  /** Gives waiting attempts to idle sessions, then opens connections for the rest. */
  pump(): void {
    try {
      this.#pump();
    } catch (error) {
      this.#brokenOff('pump', error);
    }
  }

  #pump(): void {
    while (this.#ready.length > 0) {
      const session = this.#idle.pop();
      if (session === undefined) break;
      this.#ports.busy(session);
      session.work();
    }
    for (let wanted = this.#wantedDials(); wanted > 0; wanted--) this.#dial();
  }

  #wantedDials(): number {
    const first = this.#ready.first;
    if (first === undefined) return 0;
    const { backlog_per_connection, backlog_wait_ms, max_connections_per_destination } = this.rules;
    const established = this.#sessions.size;
    const most = max_connections_per_destination - this.#closing.size;
    if (established > 0 && established < most) this.#ports.waits(this);
    if (established > 0 && this.#dialsPausedUntilMs > this.now()) return 0;
    const byBacklog = Math.ceil(this.#ready.length / backlog_per_connection);
    // Few messages, but they wait: what the open connections are at takes its time, or has stopped.
    const sinceMs = Math.max(first.readyAtMs, this.#dialledAtMs);
    const byTime = this.now() - sinceMs >= backlog_wait_ms ? established + 1 : 0;
    this.#wished = Math.max(byBacklog, byTime);
    const total = Math.min(this.#wished, most, Math.max(1, established * 2));
    const wanted = total - established - this.#dials.size;
    if (wanted <= 0) return wanted;
    const granted = this.#ports.grantedConnections(this.key) - this.openConnections;
    if (granted < wanted) this.#ports.shortOfConnections(this);
    return Math.min(wanted, granted);
  }

  get openConnections(): number {
    return this.#sessions.size + this.#closing.size + this.#dials.size;
  }

  get wantedConnections(): number {
    const wished = this.#ready.length === 0 ? 0 : this.#wished;
    return Math.min(this.rules.max_connections_per_destination, Math.max(this.#sessions.size, wished));
  }

  /** Closes what is open beyond what it may have, opens what it wants and may. */
  connectionsGranted(): void {
    this.#retireExcess();
    this.pump();
  }

  /** The idle first. A connection that is only being opened cannot be closed here: it is looked at once it is. */
  #retireExcess(): void {
    const granted = this.#ports.grantedConnections(this.key);
    if (granted >= this.openConnections) return;
    let excess = this.#dials.size - granted;
    for (const { retiring } of this.#sessions) if (!retiring) excess++;
    for (const session of this.#idle.slice(0, Math.max(0, excess))) {
      session.quit();
      excess--;
    }
    for (const session of this.#sessions) {
      if (excess <= 0) break;
      if (session.retiring) continue;
      session.retiring = true;
      excess--;
    }
  }

  #dial(): void {
    this.#dialledAtMs = this.now();
    const dial: Dial = { startedAtMs: this.#dialledAtMs, hosts: [], next: 0, session: null, fault: null };
    this.#dials.add(dial);
    const failed = (at: string, error: unknown): void => {
      this.#dials.delete(dial);
      this.#brokenOff(at, error);
    };
    const routed = (route: Route): void => {
      try {
        this.#routed(dial, route);
      } catch (error) {
        failed('connect', error);
      }
    };
    // Also what is thrown at once comes as a rejection.
    const asked = async (): Promise<Route> => this.#ports.route(this.key);
    void asked().then(
      (route) => this.#ports.outside(() => routed(route)),
      (error) => this.#ports.outside(() => failed('route', error)),
    );
  }

  #routed(dial: Dial, route: Route): void {
    // Taken back by a drain meanwhile.
    if (!this.#dials.has(dial)) return;
    if (route.kind === 'hosts') {
      const failed = (host: Host) => ((this.#failed.get(host.address) ?? 0) > this.now() ? 1 : 0);
      dial.hosts = [...route.hosts].sort((a, b) => failed(a) - failed(b));
      this.#tryNext(dial);
      return;
    }
    this.#dials.delete(dial);
    if (this.#sessions.size > 0) {
      // Open sessions go on; what DNS says now matters when they have ended.
      this.#pauseDials();
      return;
    }
    for (const attempt of this.#ready.clear()) {
      const outcome =
        route.kind === 'bounce'
          ? bounced(route.reason, route.status, route.detail)
          : deferred(route.reason, null, route.detail);
      this.#decide(attempt, outcome);
    }
  }

  #tryNext(dial: Dial): void {
    const host = dial.hosts[dial.next];
    if (host === undefined) {
      this.#dials.delete(dial);
      this.#dialFailed(dial, dial.fault as Fault);
      return;
    }
    const session = this.#ports.connect(this, host);
    if (session === null) {
      this.#dials.delete(dial);
      return;
    }
    dial.next++;
    dial.session = session;
    this.#dialOf.set(session, dial);
  }

  notEstablished(session: ClientSession, fault: Fault): void {
    const dial = this.#dialOf.get(session);
    this.#dialOf.delete(session);
    this.#closing.add(session);
    if (dial === undefined || !this.#dials.has(dial)) return;
    if (fault.plainRetry === true) dial.hosts.splice(dial.next, 0, { ...session.host, plain: true });
    else this.#noteFailed(session.host.address);
    dial.session = null;
    // A refusal in words says more than an address that does not answer.
    if (dial.fault === null || fault.reply !== null) dial.fault = fault;
    if (this.#ready.length > 0) this.#tryNext(dial);
    else this.#dials.delete(dial);
  }

  #noteFailed(address: string): void {
    if (this.#failed.size >= MAX_FAILED) this.#failed.clear();
    this.#failed.set(address, this.now() + this.rules.suspend_ms);
  }

  established(session: ClientSession): void {
    const dial = this.#dialOf.get(session);
    this.#dialOf.delete(session);
    if (dial !== undefined) this.#dials.delete(dial);
    this.#sessions.add(session);
    this.#failed.delete(session.host.address);
    this.#retireExcess();
    session.work();
    this.pump();
  }

  next(): Attempt | null {
    return this.#begin();
  }

  #begin(): Attempt | null {
    const attempt = this.#ready.shift() ?? null;
    if (attempt !== null) this.#ports.begun(attempt);
    return attempt;
  }

  lookAhead(): Attempt | null {
    // With fewer waiting than there are sessions, one of those is free sooner than this one's peer answers.
    if (!this.#looksAhead || this.#ready.length <= this.#sessions.size) return null;
    return this.#begin();
  }

  finished(attempt: Attempt): void {
    this.#ports.finished(attempt);
  }

  returned(attempt: Attempt): void {
    attempt.holder = null;
    this.#ports.rests(attempt);
    if (this.#ports.draining) this.#handBack(attempt);
    else {
      attempt.readyAtMs = this.now();
      this.#ready.unshift(attempt);
    }
  }

  idle(session: ClientSession): void {
    if (this.#ports.draining) {
      session.quit();
      return;
    }
    this.#idle.push(session);
    this.#ports.idle(session);
  }

  ended(session: ClientSession, fault: Fault | null): void {
    this.#leaves(session);
    if (session.proven) this.#recovered();
    else if (fault !== null) this.#countFailure(fault);
    // A peer that closes between transactions makes what is sent ahead worthless.
    if (fault?.reason === 'connection-lost' && session.transactions > 1) this.#looksAhead = false;
    this.pump();
  }

  /** The connection of a session that ended is gone; `pump` follows. */
  gone(session: ClientSession): void {
    this.#closing.delete(session);
  }

  /**
   * The session broke off through an error of ours, and its attempts are ended.
   * @param charged an attempt on it was; else what waits here is, so that the same error does not come again at once.
   */
  broken(session: ClientSession, fault: Fault, charged: boolean): void {
    if (this.#dialOf.has(session)) {
      this.notEstablished(session, fault);
      return;
    }
    this.#leaves(session);
    if (!charged) this.#deferReady(fault.detail);
    this.pump();
  }

  #leaves(session: ClientSession): void {
    this.#sessions.delete(session);
    this.#closing.add(session);
    const place = this.#idle.indexOf(session);
    if (place !== -1) this.#idle.splice(place, 1);
    this.#ports.busy(session);
  }

  /** An error of ours that is no session's: what waits here is deferred, and the next attempts begin anew. */
  #brokenOff(at: string, error: unknown): void {
    this.#ports.fault(this.key, at, error);
    this.#deferReady(at);
  }

  #deferReady(at: string): void {
    for (const attempt of this.#ready.clear()) {
      attempt.decideRest(internal(at));
      this.#ports.finished(attempt);
    }
  }

  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void {
    this.#ports.guard(session, at, work);
  }

  /** The peer serves us (a MAIL was accepted). */
  #recovered(): void {
    this.#failures = 0;
    this.#suspendMs = 0;
    if (this.#suspendedUntilMs === 0) return;
    this.#suspendedUntilMs = 0;
    this.#ports.suspended(this.key, 0, '');
  }

  #pauseDials(): void {
    this.#dialsPausedUntilMs = this.now() + this.rules.suspend_ms;
  }

  /** No address gave a session: the attempt that asked for it is deferred, the others try again until suspended. */
  #dialFailed(dial: Dial, fault: Fault): void {
    const attempt = this.#sessions.size > 0 ? undefined : this.#ready.shift();
    if (attempt !== undefined) {
      attempt.connectMs = this.now() - dial.startedAtMs;
      this.#decide(attempt, outcomeOf(fault));
    }
    this.#countFailure(fault);
    this.pump();
  }

  #countFailure(fault: Fault): void {
    this.#failures++;
    // While others work, this is only the peer's word that it grants no more of them.
    if (this.#sessions.size > 0) this.#pauseDials();
    else if (this.#failures >= this.rules.suspend_after_failures) this.#suspend(fault);
  }

  #suspend(fault: Fault): void {
    const { suspend_ms } = this.rules;
    const longest = Math.max(suspend_ms, this.#ports.config.retry.max_delay_ms);
    this.#suspendMs = Math.min(this.#suspendMs === 0 ? suspend_ms : this.#suspendMs * 2, longest);
    this.#suspendedUntilMs = this.now() + this.#suspendMs;
    this.#ports.suspended(this.key, this.#suspendedUntilMs, fault.detail);
    for (const attempt of this.#ready.clear()) this.#deferSuspended(attempt);
  }

  #deferSuspended(attempt: Attempt): void {
    attempt.notBeforeMs = this.#suspendedUntilMs;
    attempt.decideRest(deferred('destination-suspended', null, 'its connections failed one after another'));
    this.#ports.finished(attempt);
  }

  #decide(attempt: Attempt, outcome: Outcome): void {
    attempt.counted = true;
    attempt.decideRest(outcome);
    this.#ports.finished(attempt);
  }

  /** Tries again although its connections failed; when the next one does too, it is suspended for longer. */
  resume(): void {
    this.#suspendedUntilMs = 0;
    this.#dialsPausedUntilMs = 0;
    this.pump();
  }

  /** The config changed: open sessions end after what they are at. */
  retire(): void {
    for (const session of this.#sessions) session.retiring = true;
    for (const session of [...this.#idle]) session.quit();
  }

  /** Gives back what is not on the wire and lets the rest finish. */
  drain(): void {
    for (const dial of this.#dials) dial.session?.abort();
    for (const session of this.#dialOf.keys()) this.#closing.add(session);
    this.#dials.clear();
    this.#dialOf.clear();
    for (const attempt of this.#ready.clear()) this.#handBack(attempt);
    this.retire();
  }

  /** The time for finishing is over. */
  cut(): void {
    const fault: Fault = { reason: 'shutdown', reply: null, detail: 'the relay shut down' };
    for (const session of [...this.#sessions]) this.guard(session, 'cut', () => session.fail(fault));
  }

  #handBack(attempt: Attempt): void {
    if (attempt.untouched) {
      this.#ports.handBack(attempt);
      return;
    }
    attempt.decideRest(deferred('shutdown', null, 'the relay shut down'));
    this.#ports.finished(attempt);
  }
}
