/**
 * All that belongs to one destination: the attempts that are ready, its connections, and whether it is suspended.
 * Opens connections as the backlog asks, doubling at most, and one more where mail waits long; promises never to exceed the limits of the config and
 * that every attempt it takes is finished or handed back. Bounded by what the scheduler hands over.
 */
import type { Config } from '../config/schema.ts';
import type { Job } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { Arena } from '../native.ts';
import type { Attempt } from './attempt.ts';
import type { OwnerTls, SessionOwner } from './client/owner.ts';
import type { ClientSession } from './client/session.ts';
import type { Fault } from './client/state.ts';
import { Deque } from './deque.ts';
import { Detours } from './detours.ts';
import { HostChoice } from './host-choice.ts';
import { bounced, deferred, moreHopeful, outcomeOf } from './outcome.ts';
import type { RememberedHosts } from './remembered-hosts.ts';
import type { Host, Route } from './route.ts';
import { tlsPolicyOf } from './tls-policy.ts';

export interface DestinationPorts {
  readonly arena: Arena;
  readonly config: Config;
  readonly draining: boolean;
  readonly broken: RememberedHosts;
  readonly careful: RememberedHosts;
  readonly turn: number;
  /** Of the client's TLS context. */
  readonly tlsSlot: number;
  /** For the TLS report of a domain. */
  readonly tlsSession: (session: TlsSession) => void;
  now(): number;
  leaseHolds(job: Job): boolean;
  route(destination: string): Promise<Route>;
  /** Runs code that comes from outside a loop turn of the reactor, then sends what it wrote. */
  outside(work: () => void): void;
  /** Connections it may have, of those all nodes share; Infinity without such a limit. */
  grantedConnections(key: string): number;
  /** It wants more of them. */
  shortOfConnections(destination: Destination): void;
  /** A session on its way to the host; null when no connection may be opened now (`pump` is called later). */
  connect(destination: Destination, host: Host): ClientSession | null;
  /** A session begins with it; it waits again. */
  begun(attempt: Attempt): void;
  rests(attempt: Attempt): void;
  finished(attempt: Attempt): void;
  /** While draining: an attempt that goes back unfinished. */
  handBack(attempt: Attempt): void;
  idle(session: ClientSession): void;
  busy(session: ClientSession): void;
  /** Attempts wait and more connections may be opened: calls `pump` after delivery.backlog_wait_ms. */
  waits(destination: Destination): void;
  suspended(destination: string, untilMs: number, reason: string): void;
}

/** One try to get a session: DNS, then address after address. */
interface Dial {
  startedAtMs: number;
  /** Addresses that are not wanted: those tried by whom it is for. None: for any that is ready. */
  avoid: readonly string[];
  hosts: Host[];
  next: number;
  session: ClientSession | null;
  fault: Fault | null;
}

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
  #closing = 0;
  /** Connections that failed one after another. */
  #failures = 0;
  #suspendedUntilMs = 0;
  #suspendMs = 0;
  /** Connections there are to be, as far as limits allow. */
  #wished = 0;
  /** The peer grants no more connections than there are, until then. */
  #dialsPausedUntilMs = 0;
  readonly #hosts: HostChoice;
  /** Attempts that wait for another host than those they were tried at. */
  readonly #detours: Detours;
  #looksAhead = true;

  constructor(key: string, ports: DestinationPorts) {
    this.key = key;
    this.#ports = ports;
    this.#hosts = new HostChoice(this);
    this.#detours = this.#newDetours();
  }

  #newDetours(): Detours {
    const destination = this;
    const ports = {
      now: () => this.now(),
      wake: (session: ClientSession) => this.#wake(session),
      waits: () => this.#ports.waits(this),
      mayDial: () => this.#mayDial(),
      dial: (avoid: readonly string[]) => this.#dial(avoid),
      finished: (attempt: Attempt) => this.#ports.finished(attempt),
      sessions: this.#sessions,
      idle: this.#idle,
      get rules() {
        return destination.rules;
      },
      get draining() {
        return destination.#ports.draining;
      },
      get closing() {
        return destination.#closing;
      },
      get dialling() {
        for (const { avoid } of destination.#dials) if (avoid.length > 0) return true;
        return false;
      },
    };
    return new Detours(ports, this.#hosts);
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

  get careful(): RememberedHosts {
    return this.#ports.careful;
  }

  get turn(): number {
    return this.#ports.turn;
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
    return this.#ready.length + this.#detours.length;
  }

  /** Nothing waits, nothing is open. */
  get empty(): boolean {
    return this.backlog === 0 && this.#dials.size === 0 && this.#sessions.size + this.#closing === 0;
  }

  /** Nothing is remembered either. */
  get forgettable(): boolean {
    if (!this.empty) return false;
    if (this.#failures > 0 && this.#suspendedUntilMs + this.rules.suspend_ms > this.now()) return false;
    return !this.#hosts.remembers;
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
    if (this.#detours.length > 0) this.#detours.pump();
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
    const most = max_connections_per_destination - this.#closing;
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

  #wake(session: ClientSession): void {
    const place = this.#idle.indexOf(session);
    if (place !== -1) this.#idle.splice(place, 1);
    this.#ports.busy(session);
    session.work();
  }

  #mayDial(): boolean {
    const granted = this.#ports.grantedConnections(this.key);
    if (granted <= this.openConnections) this.#ports.shortOfConnections(this);
    return this.openConnections < Math.min(this.rules.max_connections_per_destination, granted);
  }

  get openConnections(): number {
    return this.#sessions.size + this.#closing + this.#dials.size;
  }

  get wantedConnections(): number {
    const detour = this.#detours.length > 0 ? this.#sessions.size + 1 : 0;
    const wished = Math.max(detour, this.#ready.length === 0 ? 0 : this.#wished);
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

  /** @param avoid addresses of hosts that are not wanted. */
  #dial(avoid: readonly string[] = []): void {
    const startedAtMs = this.now();
    if (avoid.length === 0) this.#dialledAtMs = startedAtMs;
    const dial: Dial = { startedAtMs, avoid, hosts: [], next: 0, session: null, fault: null };
    this.#dials.add(dial);
    // The route never rejects.
    void this.#ports.route(this.key).then((route) => {
      this.#ports.outside(() => this.#routed(dial, route));
    });
  }

  #routed(dial: Dial, route: Route): void {
    // Taken back by a drain meanwhile.
    if (!this.#dials.has(dial)) return;
    if (route.kind === 'hosts') {
      dial.hosts = this.#hosts.order(route.hosts, dial.avoid);
      this.#tryNext(dial);
      return;
    }
    this.#dials.delete(dial);
    if (dial.avoid.length > 0) {
      this.#detourFailed(route.kind === 'defer' ? deferred(route.reason, null, route.detail) : null);
      return;
    }
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
      if (dial.avoid.length === 0) this.#dialFailed(dial, dial.fault as Fault);
      else this.#detourFailed(dial.fault === null ? null : this.#outcomeOf(dial.fault));
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
    this.#closing++;
    if (dial === undefined || !this.#dials.has(dial)) return;
    if (fault.plainRetry === true) dial.hosts.splice(dial.next, 0, { ...session.host, plain: true });
    else this.#hosts.unreachable(session.host.address);
    dial.session = null;
    dial.fault = moreHopeful(dial.fault, fault, this.rules.greeting_refusal === 'bounce');
    if (dial.avoid.length === 0 ? this.#ready.length > 0 : this.#detours.length > 0) this.#tryNext(dial);
    else this.#dials.delete(dial);
  }

  #outcomeOf(fault: Fault): Outcome {
    return outcomeOf(fault, this.rules.greeting_refusal === 'bounce');
  }

  hasOthers({ host }: ClientSession): boolean {
    return this.#hosts.hasOthers([host.address]);
  }

  works({ host }: ClientSession): void {
    this.#hosts.works(host.address);
  }

  established(session: ClientSession): void {
    const dial = this.#dialOf.get(session);
    this.#dialOf.delete(session);
    if (dial !== undefined) this.#dials.delete(dial);
    this.#sessions.add(session);
    this.#hosts.reached(session.host.address);
    this.#retireExcess();
    session.work();
    this.pump();
  }

  next({ host }: ClientSession): Attempt | null {
    return this.#begin(this.#detours.length > 0 ? this.#detours.next(host.address) : null);
  }

  #begin(detour: Attempt | null): Attempt | null {
    const attempt = detour ?? this.#ready.shift() ?? null;
    if (attempt !== null) this.#ports.begun(attempt);
    return attempt;
  }

  lookAhead(): Attempt | null {
    // With fewer waiting than there are sessions, one of those is free sooner than this one's peer answers.
    if (!this.#looksAhead || this.#ready.length <= this.#sessions.size) return null;
    return this.#begin(null);
  }

  finished(attempt: Attempt, session: ClientSession): void {
    if (attempt.done) {
      this.#ports.finished(attempt);
      return;
    }
    // Where others of its messages are taken, it is this one.
    if (attempt.offered && !session.delivers) this.#hosts.failed(session.host.address);
    this.#ports.rests(attempt);
    this.#detours.take(attempt, session.host.address);
  }

  returned(attempt: Attempt): void {
    this.#ports.rests(attempt);
    if (this.#ports.draining) this.#handBack(attempt);
    else if (attempt.tried.length > 0) this.#detours.back(attempt);
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
    this.#sessions.delete(session);
    this.#closing++;
    const place = this.#idle.indexOf(session);
    if (place !== -1) this.#idle.splice(place, 1);
    this.#ports.busy(session);
    if (fault !== null && fault.ofConnection !== true && fault.reason !== 'shutdown')
      this.#hosts.failed(session.host.address);
    if (session.proven) this.#recovered();
    else if (fault !== null && !this.#hosts.hasGood) this.#countFailure(fault);
    // A peer that closes between transactions makes what is sent ahead worthless.
    if (fault?.reason === 'connection-lost' && session.transactions > 1) this.#looksAhead = false;
    this.pump();
  }

  /** The connection of a session that ended is gone; `pump` follows. */
  gone(): void {
    this.#closing--;
  }

  /** No host was reached for those that wait for another one. */
  #detourFailed(outcome: Outcome | null): void {
    this.#detours.unreachable(outcome);
    this.pump();
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
      this.#decide(attempt, this.#outcomeOf(fault));
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
    this.#detours.finishAll();
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
    this.#closing += this.#dialOf.size;
    this.#dials.clear();
    this.#dialOf.clear();
    for (const attempt of this.#ready.clear()) this.#handBack(attempt);
    this.#detours.finishAll();
    this.retire();
  }

  /** The time for finishing is over. */
  cut(): void {
    const fault: Fault = { reason: 'shutdown', reply: null, detail: 'the relay shut down' };
    for (const session of [...this.#sessions]) session.fail(fault);
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
