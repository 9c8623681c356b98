/**
 * All that belongs to one destination, for one source that mail leaves from (a lane): the attempts that are ready, its
 * connections, whether it is suspended, and what it may take of its site's limits. Opens connections as the backlog asks, at
 * most doubling their number, and one more where mail waits long. Promises never to exceed the limits of config and site, and
 * that every attempt it takes is finished or handed back. Bounded by what the scheduler hands over.
 */
import type { EgressSource } from '../egress/egress.ts';
import { DEFERRALS } from '../mail/deferrals.ts';
import type { Job } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import type { Verdict } from '../mail/verdict.ts';
import type { Attempt } from './attempt.ts';
import type { SessionOwner } from './client/owner.ts';
import type { ClientSession } from './client/session.ts';
import type { Fault } from './client/state.ts';
import { Deque } from './deque.ts';
import type { DestinationPorts } from './destination-ports.ts';
import { Detours } from './detours.ts';
import { type Dial, Dials } from './dials.ts';
import { HostChoice } from './host-choice.ts';
import { LaneEndings } from './lane-endings.ts';
import { LaneSessions } from './lane-sessions.ts';
import { LaneTerms } from './lane-terms.ts';
import { bounced, deferred, internal, outcomeOf } from './outcome.ts';
import { Pace } from './pace.ts';
import { tellNoSession, tellRefused, tellUsedUp } from './peers-limits.ts';
import type { Host, Route } from './route.ts';
import { Suspension } from './suspension.ts';

export class Destination extends LaneTerms<Destination> implements SessionOwner {
  readonly #ready = new Deque<Attempt>();
  readonly #sessions = new LaneSessions();
  readonly #dials: Dials;
  #dialledAtMs = 0;
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
  readonly #endings: LaneEndings;

  constructor(key: string, source: EgressSource, ports: DestinationPorts<Destination>) {
    super(key, source, ports);
    this.#suspension = new Suspension(ports);
    this.#hosts = new HostChoice(this);
    this.#dials = this.#newDials();
    this.#detours = this.#newDetours();
    this.#endings = new LaneEndings(this, this.#suspension, ports);
  }

  #newDials(): Dials {
    const destination = this;
    const ports = {
      now: () => this.now(),
      route: () => this.route(() => this.#acceptAgain()),
      outside: (work: () => void) => this.ports.outside(work),
      adopt: (hosts: readonly Host[]) => this.#adopt(hosts),
      connect: (host: Host) => this.ports.connect(this, host),
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

  /** What came before the limits of its site were known may have to wait for them. */
  #acceptAgain(): void {
    for (const attempt of this.#ready.clear()) this.accept(attempt);
  }

  #newDetours(): Detours {
    const destination = this;
    const ports = {
      now: () => this.now(),
      paused: () => this.#pace.holds(this.now()),
      wake: (session: ClientSession) => this.#wake(session),
      waits: () => this.ports.waits(this),
      mayDial: () => this.#mayDial(),
      isTurn: () => this.ports.mayDial(this),
      dial: (avoid: readonly string[]) => this.#dials.open(avoid),
      finished: (attempt: Attempt) => this.ports.finished(attempt),
      sessions: this.#sessions.established,
      idle: this.#sessions.idle,
      get rules() {
        return destination.rules;
      },
      get draining() {
        return destination.ports.draining;
      },
      get heldBack() {
        return destination.share.holdsBack;
      },
      get closing() {
        return destination.#sessions.closing.size;
      },
      get dialling() {
        return destination.#dials.detouring;
      },
    };
    return new Detours(ports, this.#hosts);
  }

  /** Number of attempts that are not yet on a connection. */
  get backlog(): number {
    return this.#ready.length + this.#detours.length;
  }

  /** Whether nothing waits and nothing is open. */
  get empty(): boolean {
    return this.backlog === 0 && this.#dials.size === 0 && this.#sessions.size === 0;
  }

  /** Whether it is empty, and nothing of its past has to be remembered. */
  get forgettable(): boolean {
    if (!this.empty) return false;
    return this.#suspension.forgettable && !this.#hosts.remembers;
  }

  /** Whether mail had better leave from another source now. */
  get isClosed(): boolean {
    return this.share.isClosed || (this.source.proxy !== null && this.#suspension.active);
  }

  /** Takes an attempt. The caller calls `pump` after the last of a batch. */
  accept(attempt: Attempt): void {
    if (this.#suspension.active) this.#endings.deferSuspended(attempt);
    else if (this.share.isClosed) this.#endings.deferLimited(attempt);
    else if (!this.#endings.keepsOut(attempt)) {
      attempt.readyAtMs = this.now();
      this.#ready.push(attempt);
    }
  }

  /** Gives waiting attempts to idle sessions, then opens connections for the rest. */
  pump(): void {
    try {
      if (!this.#pace.holds(this.now())) this.#pump();
      else if (this.backlog > 0) this.ports.waits(this);
    } catch (error) {
      this.#brokenOff('pump', error);
    }
  }

  #pump(): void {
    if (this.share.isClosed) this.#giveUp();
    if (this.share.holdsBack) return;
    if (this.#detours.length > 0) this.#detours.pump();
    while (this.#ready.length > 0 && !this.share.holdsBack) {
      const session = this.#sessions.idle.pop();
      if (session === undefined) break;
      this.ports.busy(session);
      session.work();
    }
    const wanted = this.#wantedDials();
    if (wanted > 0 && this.ports.mayDial(this)) for (let i = 0; i < wanted; i++) this.#dial();
  }

  #wantedDials(): number {
    const first = this.#ready.first;
    if (first === undefined || this.share.holdsBack) return 0;
    const { backlog_per_connection, backlog_wait_ms } = this.rules;
    const established = this.#sessions.established.size;
    const most = this.mostConnections - this.#sessions.closing.size;
    if (established > 0 && established < most) this.ports.waits(this);
    if (established > 0 && this.#dialsPausedUntilMs > this.now()) return 0;
    const byBacklog = Math.ceil(this.#ready.length / backlog_per_connection);
    // Few messages wait, but for long: the open connections are slow, or stand still.
    const sinceMs = Math.max(first.readyAtMs, this.#dialledAtMs);
    const byTime = this.now() - sinceMs >= backlog_wait_ms ? established + 1 : 0;
    this.#wished = Math.max(byBacklog, byTime);
    const total = Math.min(this.#wished, most, Math.max(1, established * 2));
    const wanted = total - established - this.#dials.size;
    if (wanted <= 0) return wanted;
    const granted = this.ports.grantedConnections(this) - this.openConnections;
    if (granted < wanted) this.ports.shortOfConnections(this);
    return Math.min(wanted, granted);
  }

  #wake(session: ClientSession): void {
    this.#sessions.notIdle(session);
    this.ports.busy(session);
    session.work();
  }

  #mayDial(): boolean {
    const granted = this.ports.grantedConnections(this);
    if (granted <= this.openConnections) this.ports.shortOfConnections(this);
    return this.openConnections < Math.min(this.mostConnections, granted);
  }

  get openConnections(): number {
    return this.#sessions.size + this.#dials.size;
  }

  get wantedConnections(): number {
    const established = this.#sessions.established.size;
    const detour = this.#detours.length > 0 ? established + 1 : 0;
    const wished = Math.max(detour, this.#ready.length === 0 ? 0 : this.#wished);
    return Math.min(this.mostConnections, Math.max(established, wished));
  }

  /** The grant changed: closes connections beyond it, or opens those that it allows. */
  connectionsGranted(): void {
    this.#retireExcess();
    this.pump();
  }

  /** Closes connections beyond the grant. Those being opened are closed once they are established. */
  #retireExcess(): void {
    const granted = this.ports.grantedConnections(this);
    if (granted < this.openConnections) this.#sessions.retireBeyond(granted - this.#dials.size);
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
    } else if (this.#sessions.established.size > 0) this.#pauseDials();
    else for (const attempt of this.#ready.clear()) this.#endings.decide(attempt, outcome);
  }

  notEstablished(session: ClientSession, fault: Fault): void {
    this.#sessions.closing.add(session);
    this.#dials.lost(session, fault);
  }

  #outcomeOf(fault: Fault): Outcome {
    return outcomeOf(fault, this.rules.greeting_refusal === 'bounce');
  }

  hasOthers({ host }: ClientSession): boolean {
    return this.#hosts.hasOthers([host.address]);
  }

  slowDown(session: ClientSession, { class: kind, scope }: Verdict): void {
    const isOneTooMany = kind === 'connection_limit' && this.#sessions.established.size > 1;
    if (kind === 'connection_limit' && !this.hasOthers(session)) tellRefused(this.share.limits, session);
    session.retiring ||= isOneTooMany;
    if (isOneTooMany) this.#pauseDials();
    else if (this.slowsByItself) this.#pace.slowDown(scope, this.now());
  }

  keepApart(): void {
    this.#hosts.keepApart();
  }

  works({ host }: ClientSession): void {
    this.#hosts.works(host.address);
  }

  established(session: ClientSession): void {
    this.#dials.established(session);
    this.ports.established(session);
    this.#begins(session);
  }

  /** Takes over a connection of another domain of its site that has no work. */
  #adopt(hosts: readonly Host[]): boolean {
    const session = this.#hosts.isApart ? null : this.ports.adopt(this, hosts);
    if (session === null) return false;
    this.#hosts.reached(session.host.address);
    this.#begins(session);
    return true;
  }

  /** It works for another domain from now on. */
  release(session: ClientSession): void {
    this.#sessions.established.delete(session);
    this.#sessions.notIdle(session);
  }

  #begins(session: ClientSession): void {
    this.#sessions.established.add(session);
    this.#retireExcess();
    session.work();
    this.pump();
  }

  next(session: ClientSession): Attempt | null {
    session.retiring ||= this.share.limits?.leaves() === true;
    if (session.retiring) return null;
    if (this.backlog === 0 || this.#pace.holds(this.now()) || !this.share.takesMessage()) return null;
    return this.#begin(this.#detours.length > 0 ? this.#detours.next(session.host.address) : null);
  }

  #begin(detour: Attempt | null): Attempt | null {
    const attempt = detour ?? this.#ready.shift() ?? null;
    if (attempt === null) {
      this.share.limits?.giveBackMessage();
      return null;
    }
    this.share.mark(attempt);
    this.ports.begun(attempt);
    return attempt;
  }

  lookAhead(): Attempt | null {
    // If fewer attempts wait than there are sessions, another session is likely to be free before this peer answers.
    if (!this.#looksAhead || this.#pace.holds(this.now())) return null;
    if (this.#ready.length <= this.#sessions.established.size) return null;
    return this.share.takesMessage() ? this.#begin(null) : null;
  }

  finished(attempt: Attempt, session: ClientSession): void {
    if (attempt.done) {
      this.ports.finished(attempt);
      return;
    }
    // If the host takes other messages, the fault is in this message and not in the host.
    attempt.holder = null;
    if (attempt.offered && !session.delivers) this.#hosts.failed(session.host.address);
    this.ports.rests(attempt);
    this.#detours.take(attempt, session.host.address);
  }

  returned(attempt: Attempt): void {
    attempt.holder = null;
    this.ports.rests(attempt);
    if (this.ports.draining) this.#endings.handBack(attempt);
    else if (attempt.tried.length > 0) this.#detours.back(attempt);
    else {
      attempt.readyAtMs = this.now();
      this.#ready.unshift(attempt);
    }
  }

  idle(session: ClientSession): void {
    if (this.ports.draining) {
      session.quit();
      return;
    }
    this.#sessions.idle.push(session);
    this.ports.idle(session);
  }

  ended(session: ClientSession, fault: Fault | null): void {
    this.#leaves(session);
    tellUsedUp(this.share.limits, session);
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
    this.#sessions.closing.delete(session);
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
    this.#sessions.leave(session);
    this.ports.busy(session);
  }

  /** A program error belongs to no session: defers the attempts that wait here; the next ones begin anew. */
  #brokenOff(at: string, error: unknown): void {
    this.ports.fault(this.key, at, error);
    this.#deferReady(at);
  }

  #deferReady(at: string): void {
    for (const attempt of this.#ready.clear()) this.#endings.end(attempt, internal(at));
    this.#detours.finishAll();
  }

  /** The peer serves us (a MAIL was accepted). */
  #recovered(): void {
    this.share.limits?.served();
    if (this.#suspension.end()) this.ports.suspended(this, 0, '');
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
    tellNoSession(this.share.limits, fault, startedAtMs);
    const attempt = this.#sessions.established.size > 0 ? undefined : this.#ready.shift();
    if (attempt !== undefined) {
      attempt.connectMs = this.now() - startedAtMs;
      this.#endings.decide(attempt, this.#outcomeOf(fault));
    }
    this.#countFailure(fault);
    this.pump();
  }

  #countFailure(fault: Fault): void {
    this.#suspension.count();
    this.share.limits?.connectFailed(this.now());
    // While other connections work, the peer only says that it takes no more of them.
    if (this.#sessions.established.size > 0) this.#pauseDials();
    else if (this.#suspension.due) this.#suspend(fault);
  }

  #suspend(fault: Fault): void {
    this.#suspension.begin();
    this.ports.suspended(this, this.#suspension.untilMs, fault.detail);
    for (const attempt of this.#ready.clear()) this.#endings.deferSuspended(attempt);
    this.#detours.finishAll();
  }

  /** A limit of the site lets nothing through for some time: what waits goes back to the queue. */
  #giveUp(): void {
    for (const attempt of this.#ready.clear()) this.#endings.deferLimited(attempt);
    this.#detours.finishAll();
  }

  /** Tries again although connections failed. If the next one fails, too, the destination is suspended for longer. */
  resume(): void {
    this.#suspension.lift();
    this.#dialsPausedUntilMs = 0;
    this.pump();
  }

  /** The config changed: open sessions end after their present work. */
  retire(): void {
    this.#sessions.retire();
  }

  /** Takes out jobs that no connection has begun. @param alsoBegun ends others, unless they are on a connection. */
  takeBack(isMeant: (job: Job) => boolean, alsoBegun: boolean): Job[] {
    const taken: Job[] = [];
    for (const attempt of this.#ready.clear())
      if (!isMeant(attempt.job) || !(attempt.untouched || alsoBegun)) this.#ready.push(attempt);
      else if (attempt.untouched) taken.push(attempt.job);
      else this.#endings.end(attempt, deferred('suspended', null, 'taken back'));
    if (alsoBegun) this.#detours.finishAll(isMeant);
    return taken;
  }

  /** Gives back attempts that are not on the wire, and lets the others finish. */
  drain(): void {
    for (const session of this.#dials.abort()) this.#sessions.closing.add(session);
    for (const attempt of this.#ready.clear()) this.#endings.handBack(attempt);
    this.#detours.finishAll();
    this.retire();
  }

  /** The time for finishing is over: breaks off everything. */
  cut(): void {
    const fault: Fault = { reason: 'shutdown', reply: null, detail: 'the relay shut down' };
    for (const session of [...this.#sessions.established])
      this.guard(session, 'cut', () => session.fail(fault));
  }
}
