/**
 * All that belongs to one destination: the attempts that are ready, its connections, and whether it is suspended.
 * Opens connections as the backlog asks, at most doubling their number, and one more where mail waits long. Promises
 * never to exceed the limits of the config, and that every attempt it takes is finished or handed back. Bounded by what
 * the scheduler hands over.
 */
import type { Config } from '../config/schema.ts';
import { DEFERRALS } from '../mail/deferrals.ts';
import type { Job } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import type { Verdict } from '../mail/verdict.ts';
import type { Arena } from '../native.ts';
import type { Attempt } from './attempt.ts';
import type { OwnerTls, SessionOwner } from './client/owner.ts';
import type { ClientSession } from './client/session.ts';
import type { Fault } from './client/state.ts';
import { Deque } from './deque.ts';
import type { DestinationPorts } from './destination-ports.ts';
import { Detours } from './detours.ts';
import { type Dial, Dials } from './dials.ts';
import { HostChoice } from './host-choice.ts';
import { bounced, deferred, internal, outcomeOf } from './outcome.ts';
import { Pace } from './pace.ts';
import type { RememberedHosts } from './remembered-hosts.ts';
import { retireExcess } from './retire-excess.ts';
import type { Host, Route } from './route.ts';
import { tlsPolicyOf } from './security/tls-policy.ts';
import { Suspension } from './suspension.ts';

export class Destination implements SessionOwner {
  readonly key: string;
  readonly classify: SessionOwner['classify'];
  recipientLimit = Number.POSITIVE_INFINITY;
  readonly #ports: DestinationPorts<Destination>;
  readonly #ready = new Deque<Attempt>();
  readonly #sessions = new Set<ClientSession>();
  readonly #idle: ClientSession[] = [];
  readonly #dials: Dials;
  #dialledAtMs = 0;
  /** Sessions that ended, but whose connection is not closed yet. */
  readonly #closing = new Set<ClientSession>();
  readonly #suspension: Suspension;
  /** How many connections there should be, if limits allow. */
  #wished = 0;
  /** Until then the peer takes no more connections than there are. */
  #dialsPausedUntilMs = 0;
  readonly #hosts: HostChoice;
  /** Attempts that wait for a host at which they were not tried yet. */
  readonly #detours: Detours;
  #looksAhead = true;
  readonly #pace = new Pace();

  constructor(key: string, ports: DestinationPorts<Destination>) {
    this.key = key;
    this.#ports = ports;
    this.classify = ports.classify;
    this.#suspension = new Suspension(ports);
    this.#hosts = new HostChoice(this);
    this.#dials = this.#newDials();
    this.#detours = this.#newDetours();
  }

  #newDials(): Dials {
    const destination = this;
    const ports = {
      now: () => this.now(),
      route: () => this.#ports.route(this.key),
      outside: (work: () => void) => this.#ports.outside(work),
      connect: (host: Host) => this.#ports.connect(this, host),
      isWanted: ({ avoid }: Dial) => (avoid.length === 0 ? this.#ready : this.#detours).length > 0,
      failed: (dial: Dial, fault: Fault | null) => this.#dialFailed(dial, fault),
      noHosts: (dial: Dial, route: Exclude<Route, { kind: 'hosts' }>) => this.#noHosts(dial, route),
      broke: (at: string, error: unknown) => this.#brokenOff(at, error),
      get rules() {
        return destination.rules;
      },
    };
    return new Dials(ports, this.#hosts);
  }

  #newDetours(): Detours {
    const destination = this;
    const ports = {
      now: () => this.now(),
      wake: (session: ClientSession) => this.#wake(session),
      waits: () => this.#ports.waits(this),
      mayDial: () => this.#mayDial(),
      isTurn: () => this.#ports.mayDial(this),
      dial: (avoid: readonly string[]) => this.#dials.open(avoid),
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
        return destination.#closing.size;
      },
      get dialling() {
        return destination.#dials.detouring;
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

  /** Number of attempts that are not yet on a connection. */
  get backlog(): number {
    return this.#ready.length + this.#detours.length;
  }

  /** Whether nothing waits and nothing is open. */
  get empty(): boolean {
    return this.backlog === 0 && this.#dials.size === 0 && this.#sessions.size + this.#closing.size === 0;
  }

  /** Whether it is empty, and nothing of its past has to be remembered. */
  get forgettable(): boolean {
    if (!this.empty) return false;
    return this.#suspension.forgettable && !this.#hosts.remembers;
  }

  /** Takes an attempt. The caller calls `pump` after the last of a batch. */
  accept(attempt: Attempt): void {
    if (this.#suspension.active) this.#deferSuspended(attempt);
    else {
      attempt.readyAtMs = this.now();
      this.#ready.push(attempt);
    }
  }

  /** Gives waiting attempts to idle sessions, then opens connections for the rest. */
  pump(): void {
    try {
      if (!this.#pace.holds(this.now())) this.#pump();
      else if (this.backlog > 0) this.#ports.waits(this);
    } catch (error) {
      this.#brokenOff('pump', error);
    }
  }

  #pump(): void {
    if (this.#detours.length > 0) this.#detours.pump();
    while (this.#ready.length > 0) {
      const session = this.#idle.pop();
      if (session === undefined) break;
      this.#ports.busy(session);
      session.work();
    }
    const wanted = this.#wantedDials();
    if (wanted > 0 && this.#ports.mayDial(this)) for (let i = 0; i < wanted; i++) this.#dial();
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
    // Few messages wait, but for long: the open connections are slow, or stand still.
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
    return this.#sessions.size + this.#closing.size + this.#dials.size;
  }

  get wantedConnections(): number {
    const detour = this.#detours.length > 0 ? this.#sessions.size + 1 : 0;
    const wished = Math.max(detour, this.#ready.length === 0 ? 0 : this.#wished);
    return Math.min(this.rules.max_connections_per_destination, Math.max(this.#sessions.size, wished));
  }

  /** The grant changed: closes connections beyond it, or opens those that it allows. */
  connectionsGranted(): void {
    this.#retireExcess();
    this.pump();
  }

  #retireExcess(): void {
    const granted = this.#ports.grantedConnections(this.key);
    if (granted < this.openConnections) retireExcess(this.#sessions, this.#idle, granted - this.#dials.size);
  }

  #dial(): void {
    this.#dialledAtMs = this.now();
    this.#dials.open([]);
  }

  #noHosts({ avoid }: Dial, route: Exclude<Route, { kind: 'hosts' }>): void {
    const { detail } = route;
    const outcome =
      route.kind === 'bounce'
        ? bounced(route.reason, route.status, detail)
        : deferred(route.reason, null, detail);
    if (avoid.length > 0) {
      this.#detours.unreachable(outcome);
      this.pump();
      // Open sessions go on. What DNS says now matters once they have ended.
    } else if (this.#sessions.size > 0) this.#pauseDials();
    else for (const attempt of this.#ready.clear()) this.#decide(attempt, outcome);
  }

  notEstablished(session: ClientSession, fault: Fault): void {
    this.#closing.add(session);
    this.#dials.lost(session, fault);
  }

  #outcomeOf(fault: Fault): Outcome {
    return outcomeOf(fault, this.rules.greeting_refusal === 'bounce');
  }

  hasOthers({ host }: ClientSession): boolean {
    return this.#hosts.hasOthers([host.address]);
  }

  slowDown(session: ClientSession, { class: kind, scope }: Verdict): void {
    const isOneTooMany = kind === 'connection_limit' && this.#sessions.size > 1;
    session.retiring ||= isOneTooMany;
    if (isOneTooMany) this.#pauseDials();
    else this.#pace.slowDown(scope, this.now());
  }

  works({ host }: ClientSession): void {
    this.#hosts.works(host.address);
  }

  established(session: ClientSession): void {
    this.#dials.established(session);
    this.#sessions.add(session);
    this.#retireExcess();
    session.work();
    this.pump();
  }

  next({ host }: ClientSession): Attempt | null {
    if (this.#pace.holds(this.now())) return null;
    return this.#begin(this.#detours.length > 0 ? this.#detours.next(host.address) : null);
  }

  #begin(detour: Attempt | null): Attempt | null {
    const attempt = detour ?? this.#ready.shift() ?? null;
    if (attempt !== null) this.#ports.begun(attempt);
    return attempt;
  }

  lookAhead(): Attempt | null {
    // If fewer attempts wait than there are sessions, another session is likely to be free before this peer answers.
    if (!this.#looksAhead || this.#pace.holds(this.now()) || this.#ready.length <= this.#sessions.size)
      return null;
    return this.#begin(null);
  }

  finished(attempt: Attempt, session: ClientSession): void {
    if (attempt.done) {
      this.#ports.finished(attempt);
      return;
    }
    // If the host takes other messages, the fault is in this message and not in the host.
    attempt.holder = null;
    if (attempt.offered && !session.delivers) this.#hosts.failed(session.host.address);
    this.#ports.rests(attempt);
    this.#detours.take(attempt, session.host.address);
  }

  returned(attempt: Attempt): void {
    attempt.holder = null;
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
    this.#leaves(session);
    if (fault !== null && fault.ofConnection !== true && DEFERRALS[fault.reason].whose === 'peer')
      this.#hosts.failed(session.host.address);
    if (session.proven) this.#recovered();
    else if (fault !== null && !this.#hosts.hasGoodBeside(session.host.address)) this.#countFailure(fault);
    // With a peer that closes between transactions, sending ahead is of no use.
    if (fault?.reason === 'connection_lost' && session.transactions > 1) this.#looksAhead = false;
    this.pump();
  }

  /** The connection of a session that ended is closed. The caller calls `pump`. */
  gone(session: ClientSession): void {
    this.#closing.delete(session);
    this.#dials.gone(session);
  }

  /**
   * A program error broke off the session, and its attempts have ended.
   * @param charged whether there was such an attempt. If not, the attempts that wait are deferred: the error must not
   *   come again at once.
   */
  broken(session: ClientSession, fault: Fault, charged: boolean): void {
    if (this.#dials.has(session)) {
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

  /** A program error belongs to no session: defers the attempts that wait here; the next ones begin anew. */
  #brokenOff(at: string, error: unknown): void {
    this.#ports.fault(this.key, at, error);
    this.#deferReady(at);
  }

  #deferReady(at: string): void {
    for (const attempt of this.#ready.clear()) this.#end(attempt, internal(at));
    this.#detours.finishAll();
  }

  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void {
    this.#ports.guard(session, at, work);
  }

  /** The peer serves us (a MAIL was accepted). */
  #recovered(): void {
    if (this.#suspension.end()) this.#ports.suspended(this.key, 0, '');
  }

  #pauseDials(): void {
    this.#dialsPausedUntilMs = this.now() + this.rules.suspend_ms;
  }

  /** No host gave a session: the first attempt gets its outcome; for the others it is tried again, until suspended. */
  #dialFailed({ avoid, startedAtMs }: Dial, fault: Fault | null): void {
    if (avoid.length > 0 || fault === null) {
      this.#detours.unreachable(fault === null ? null : this.#outcomeOf(fault));
      this.pump();
      return;
    }
    const attempt = this.#sessions.size > 0 ? undefined : this.#ready.shift();
    if (attempt !== undefined) {
      attempt.connectMs = this.now() - startedAtMs;
      this.#decide(attempt, this.#outcomeOf(fault));
    }
    this.#countFailure(fault);
    this.pump();
  }

  #countFailure(fault: Fault): void {
    this.#suspension.count();
    // While other connections work, the peer only says that it takes no more of them.
    if (this.#sessions.size > 0) this.#pauseDials();
    else if (this.#suspension.due) this.#suspend(fault);
  }

  #suspend(fault: Fault): void {
    this.#suspension.begin();
    this.#ports.suspended(this.key, this.#suspension.untilMs, fault.detail);
    for (const attempt of this.#ready.clear()) this.#deferSuspended(attempt);
    this.#detours.finishAll();
  }

  #deferSuspended(attempt: Attempt): void {
    attempt.notBeforeMs = this.#suspension.untilMs;
    this.#end(attempt, deferred('destination_suspended', null, 'its connections failed one after another'));
  }

  #decide(attempt: Attempt, outcome: Outcome): void {
    attempt.counted = true;
    this.#end(attempt, outcome);
  }

  #end(attempt: Attempt, outcome: Outcome): void {
    attempt.decideRest(outcome);
    this.#ports.finished(attempt);
  }

  /** Tries again although connections failed. If the next one fails, too, the destination is suspended for longer. */
  resume(): void {
    this.#suspension.lift();
    this.#dialsPausedUntilMs = 0;
    this.pump();
  }

  /** The config changed: open sessions end after their present work. */
  retire(): void {
    for (const session of this.#sessions) session.retiring = true;
    for (const session of [...this.#idle]) session.quit();
  }

  /** Takes out jobs that no connection has begun. @param alsoBegun ends others, unless they are on a connection. */
  takeBack(isMeant: (job: Job) => boolean, alsoBegun: boolean): Job[] {
    const taken: Job[] = [];
    for (const attempt of this.#ready.clear())
      if (!isMeant(attempt.job) || !(attempt.untouched || alsoBegun)) this.#ready.push(attempt);
      else if (attempt.untouched) taken.push(attempt.job);
      else this.#end(attempt, deferred('suspended', null, 'taken back'));
    if (alsoBegun) this.#detours.finishAll(isMeant);
    return taken;
  }

  /** Gives back attempts that are not on the wire, and lets the others finish. */
  drain(): void {
    for (const session of this.#dials.abort()) this.#closing.add(session);
    for (const attempt of this.#ready.clear()) this.#handBack(attempt);
    this.#detours.finishAll();
    this.retire();
  }

  /** The time for finishing is over: breaks off everything. */
  cut(): void {
    const fault: Fault = { reason: 'shutdown', reply: null, detail: 'the relay shut down' };
    for (const session of [...this.#sessions]) this.guard(session, 'cut', () => session.fail(fault));
  }

  #handBack(attempt: Attempt): void {
    if (attempt.untouched) this.#ports.handBack(attempt);
    else this.#end(attempt, deferred('shutdown', null, 'the relay shut down'));
  }
}
