/**
 * The work of a delivery thread: takes jobs, keeps the destinations, carries the reactor's events to the sessions, and
 * collects results for one post per loop turn. Keeps every limit of the thread as a whole. thread.ts runs it.
 */
import { BrokenInvariant } from '../base/broken-invariant.ts';
import type { Config } from '../config/schema.ts';
import type { EgressSource } from '../egress/egress.ts';
import type { Job } from '../mail/job.ts';
import type { PeerReply } from '../mail/outcome.ts';
import { judgeOf, type TakenBack } from '../mail/suspension.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { Verdict } from '../mail/verdict.ts';
import { type Arena, EVENT, EVENT_WORDS, type Reactor } from '../native.ts';
import type { ConnectionGrant } from '../scheduler/connections.ts';
import type { LaneLimits } from '../shaping/lane-limits.ts';
import type { Site } from '../shaping/sites.ts';
import { Attempt } from './attempt.ts';
import type { ClientSession } from './client/session.ts';
import { transactionIn } from './client/state.ts';
import { Departures } from './departures.ts';
import { Destination } from './destination.ts';
import type { DestinationPorts } from './destination-ports.ts';
import { Endings } from './endings.ts';
import { GrantedConnections } from './granted-connections.ts';
import { Lanes } from './lanes.ts';
import { OpenConnections } from './open-connections.ts';
import { byFirstDigit, deferred, internal, unsigned } from './outcome.ts';
import { OwedJobs } from './owed-jobs.ts';
import { RememberedHosts } from './remembered-hosts.ts';
import type { Host, Route, Router } from './route.ts';
import type { SenderPorts, SigningVerdict } from './sender-ports.ts';
import { EVENT_NAMES, sessionEvent } from './session-events.ts';
import { Settler } from './settle.ts';
import { endSuppressed, unbegun } from './unbegun.ts';

/** How long a message waits of which no source may send. */
const STRANDED_MS = 60_000;

export class Sender implements DestinationPorts<Destination> {
  config: Config;
  draining = false;
  readonly arena: Arena;
  readonly tlsSlot: number;
  readonly tlsSession: (session: TlsSession) => void;
  readonly classify: (reply: PeerReply) => Verdict;
  readonly broken = new RememberedHosts();
  readonly careful = new RememberedHosts();
  turn = 0;
  readonly #ports: SenderPorts;
  readonly #reactor: Reactor;
  readonly #settler: Settler;
  readonly #endings: Endings;
  #router: Router;
  #nowMs = 0;
  #wallMs = 0;
  readonly #lanes: Lanes;
  readonly departures: Departures;
  readonly #connections: OpenConnections;
  /** Lanes that got attempts of a batch. */
  readonly #touched = new Set<Destination>();
  readonly gates: DestinationPorts<Destination>['gates'];
  returnPaths: DestinationPorts<Destination>['returnPaths'] = null;
  readonly #owed: OwedJobs;
  #depth = 0;
  readonly #granted: GrantedConnections;

  constructor(ports: SenderPorts) {
    this.#ports = ports;
    this.#owed = new OwedJobs(ports);
    this.gates = ports.gates ?? { take: () => 0, refusedBy: '' };
    this.config = ports.config;
    this.arena = ports.arena;
    this.tlsSlot = ports.tlsSlot;
    this.tlsSession = ports.tlsSession ?? (() => {});
    this.classify = ports.classify ?? byFirstDigit;
    this.#tick();
    this.#router = ports.createRouter(ports.config);
    // Twice as many: closed connections keep their places in the reactor until its loop has turned.
    const places = 2 * ports.config.delivery.max_connections;
    this.#reactor = ports.createReactor((count) => this.#turn(count), places);
    const timing = {
      setTimer: (ms: number, fire: () => void) => ports.setTimer(ms, fire),
      outside: (work: () => void) => this.outside(work),
    };
    this.#granted = new GrantedConnections({
      post: (demands) => ports.post({ type: 'connections', demands }),
      destinations: () => this.#lanes.destinations(),
      destination: (key) => this.#lanes.destination(key),
      setTimer: timing.setTimer,
    });
    const sender = this;
    this.#connections = new OpenConnections({
      get rules() {
        return sender.config.delivery;
      },
      reactor: this.#reactor,
      now: () => this.#nowMs,
      transcript: (id, key) => ports.transcript?.(id, key) ?? null,
      ...timing,
    });
    this.#lanes = new Lanes(
      (key, source) => new Destination(key, source, this),
      (lane) => {
        this.#connections.leave(lane);
        lane.share.leave();
      },
    );
    this.departures = new Departures(ports.createEgress(ports.config), {
      goesByMx: (key) => this.#router.goesByMx(key),
      route: (key) => this.route(key),
      isClosed: (key, source) => this.#lanes.known(key, source)?.isClosed === true,
      depart: (attempt, source, key) => this.#depart(attempt, source, key),
      passOn: (attempt, key) => this.#passOn(attempt, key),
      finished: (attempt) => this.finished(attempt),
      stranded: (attempt, pool) => this.#stranded(attempt, pool),
      outside: timing.outside,
      failed: (attempt, error) => this.#notAccepted(attempt, error),
    });
    this.#settler = new Settler({
      arena: ports.arena,
      dsn: ports.dsn,
      nextAttempt: ports.retry.nextAttempt,
      random: ports.random,
      now: () => this.#nowMs,
      wall: () => this.#wallMs,
      result: (result) => this.#owed.answer(result),
      signers: ports.signers ?? (() => []),
      get config() {
        return sender.config;
      },
    });
    this.#endings = new Endings({
      settler: this.#settler,
      begun: (attempt) => this.begun(attempt),
      rests: (attempt) => this.rests(attempt),
      fault: (destination, at, error) => this.fault(destination, at, error),
      outside: (work) => this.outside(work),
      setTimer: (ms, fire) => ports.setTimer(ms, fire),
    });
  }

  now(): number {
    return this.#nowMs;
  }

  #tick(): void {
    this.#nowMs = this.#ports.now();
    this.#wallMs = this.#ports.wall?.() ?? this.#nowMs;
  }

  leaseHolds(job: Job): boolean {
    return this.#ports.leaseHolds(job);
  }

  route(destination: string): Promise<Route> {
    return this.#connections.waiting.asks(this.#router.route(destination));
  }

  grantedConnections(lane: Destination): number {
    const limited = this.config.delivery.max_cluster_connections_per_destination > 0;
    if (!limited) return Number.POSITIVE_INFINITY;
    return Math.max(0, this.#granted.of(lane.key) - this.#lanes.openBeside(lane));
  }

  shortOfConnections({ key }: Destination): void {
    const destination = this.#lanes.destination(key);
    if (destination !== undefined) this.#granted.short(destination);
  }

  readonly openBeside = (lane: Destination): number => this.#lanes.openBeside(lane);

  enter({ key, source }: Destination, site: Site, hosts: readonly Host[]): Promise<LaneLimits> {
    const limits = this.#ports.limits as NonNullable<SenderPorts['limits']>;
    limits.belongs(key, site, hosts);
    this.departures.belongs(key, site);
    return limits.enter(site, source.name);
  }

  readonly release = (limits: LaneLimits): void => this.#ports.limits?.release(limits);

  pumpAt(lane: Destination, atMs: number): void {
    this.#ports.setTimer(Math.max(1, atMs - this.#nowMs), () =>
      this.outside(() => {
        lane.share.due();
        lane.pump();
      }),
    );
  }

  /** Sets how many connections it may open, of those that all nodes share. */
  grantConnections(grants: ConnectionGrant[]): void {
    this.outside(() => this.#granted.granted(grants));
  }

  /** Takes a batch of jobs; each comes back as a result, or unfinished when a drain overtakes it. */
  accept(jobs: Job[]): void {
    this.outside(() => this.#takeAll(jobs));
  }

  #takeAll(jobs: Job[]): void {
    for (const job of jobs) {
      this.#owed.count++;
      this.#guarded(new Attempt(job), (attempt) => {
        if (this.draining) this.handBack(attempt);
        else if (!this.#refuse(attempt) && !this.departures.passesOn(attempt))
          this.#enter(attempt, this.#ports.signing?.take(attempt));
      });
    }
    this.#ports.signing?.flush();
  }

  /** It is known what becomes of attempts that `signing` kept. */
  signed(all: { attempt: Attempt; verdict: SigningVerdict }[]): void {
    this.outside(() => {
      for (const { attempt, verdict } of all) this.#guarded(attempt, () => this.#enter(attempt, verdict));
    });
  }

  #guarded(attempt: Attempt, work: (attempt: Attempt) => void): void {
    try {
      work(attempt);
    } catch (error) {
      this.#notAccepted(attempt, error);
    }
  }

  /** @param verdict null: it is told later; absent: nothing is signed here. */
  #enter(attempt: Attempt, verdict: SigningVerdict | null | undefined): void {
    if (verdict === null) return;
    if (this.draining) {
      this.handBack(attempt);
      return;
    }
    if (verdict !== undefined && verdict.kind !== 'go') {
      attempt.decideRest(unsigned(verdict));
      this.finished(attempt);
      return;
    }
    attempt.fields = verdict?.fields ?? '';
    this.departures.take(attempt);
  }

  #notAccepted(attempt: Attempt, error: unknown): void {
    this.fault(attempt.job.destination, 'accept', error);
    if (attempt.ended) return;
    attempt.decideRest(internal('accept'));
    this.finished(attempt);
  }

  #passOn(attempt: Attempt, key: string): boolean {
    attempt.ended = !this.draining && this.#owed.passOn(attempt.job, key);
    return attempt.ended;
  }

  #depart(attempt: Attempt, source: EgressSource, key: string): void {
    attempt.source = source.name;
    const lane = this.#lanes.of(key, source);
    lane.accept(attempt);
    this.#touched.add(lane);
  }

  #stranded(attempt: Attempt, pool: string): void {
    attempt.notBeforeMs = this.#nowMs + STRANDED_MS;
    attempt.decideRest(deferred('limit_reached', null, `no source of pool ${pool} may send there now`));
    this.finished(attempt);
  }

  /** Lanes that got attempts open connections for them once a batch is over. */
  #pumpTouched(): void {
    const touched = [...this.#touched];
    this.#touched.clear();
    for (const lane of touched) lane.pump();
  }

  /** Whether the attempt is not begun at all: it is over, or there are more jobs than agreed. */
  #refuse(attempt: Attempt): boolean {
    const { retry, delivery } = this.config;
    endSuppressed(attempt);
    const outcome = unbegun(attempt.job, retry, this.#ports.retry.isTooOld, this.#wallMs);
    if (outcome !== null) attempt.decideRest(outcome);
    else if (this.#owed.count > delivery.max_handoff_messages) {
      const detail = 'more messages than delivery.max_handoff_messages';
      attempt.notBeforeMs = this.#nowMs + Math.min(1000, retry.initial_delay_ms);
      attempt.decideRest(deferred('hand_off_released', null, detail));
    } else if (!attempt.done) return false;
    this.finished(attempt);
    return true;
  }

  readonly mayDial = (lane: Destination): boolean => this.#connections.mayDial(lane);

  adopt(lane: Destination, hosts: readonly Host[]): ClientSession | null {
    const found = this.#connections.adopt(lane, hosts);
    if (found?.from.forgettable === true) this.#lanes.rests(found.from);
    return found?.session ?? null;
  }

  readonly isAwaited = (limits: LaneLimits): boolean => this.#connections.isAwaited(limits);

  connect(lane: Destination, host: Host): ClientSession | null {
    return this.#connections.open(lane, host);
  }

  readonly established = (session: ClientSession): void => this.#connections.established(session);

  readonly idle = (session: ClientSession): void => this.#connections.idle(session);

  readonly busy = (session: ClientSession): void => this.#connections.busy(session);

  waits(destination: Destination): void {
    this.#connections.waiting.later(destination);
  }

  suspended(lane: Destination, untilMs: number, reason: string): void {
    // The mail of other sources may go on.
    if (untilMs !== 0 && !this.#lanes.isOnly(lane)) return;
    this.#ports.post({ type: 'destination', destination: lane.key, suspendedUntilMs: untilMs, reason });
  }

  /** A session begins the attempt: notes it, because it may be the reason should the process die now. */
  begun(attempt: Attempt): void {
    const { job, slot } = attempt;
    if (slot < 0) attempt.slot = this.#ports.begun?.take(job.queueId, job.destination, job.fence) ?? -1;
  }

  /** The attempt waits again, or is over. */
  rests(attempt: Attempt): void {
    this.#ports.begun?.free(attempt.slot);
    attempt.slot = -1;
  }

  /** Ends an attempt. Throws only what concerns all attempts, so the caller may go on with others. */
  finished(attempt: Attempt): void {
    if (attempt.source !== '') this.departures.ended(attempt);
    this.#endings.finish(attempt);
  }

  /** Counts a program error that belongs to no session. @throws the error if it is a BrokenInvariant. */
  fault(destination: string, at: string, error: unknown, session?: ClientSession): void {
    if (error instanceof BrokenInvariant) throw error;
    const attempt = session && (session.inHand ?? transactionIn(session.state)?.attempt);
    const whose = session && { connection: session.id, queueId: attempt?.job.queueId };
    this.#ports.fault?.({ ...whose, destination, at, error });
  }

  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void {
    try {
      work(session);
    } catch (error) {
      this.#breakOff(session, at, error);
    }
  }

  /** A program error in one dialog: ends the dialog, and its attempts wait; other dialogs go on. */
  #breakOff(
    session: ClientSession,
    at: string,
    error: unknown,
    destination = this.#connections.laneOf(session),
  ): void {
    this.fault(destination?.key ?? '', at, error, session);
    const charged = session.breakOff(internal(at), (attempt) => this.finished(attempt));
    try {
      destination?.broken(session, { reason: 'internal_error', reply: null, detail: at }, charged);
    } catch (second) {
      this.fault(destination?.key ?? '', 'end', second, session);
    }
  }

  handBack(attempt: Attempt): void {
    attempt.ended = true;
    this.#owed.handBack(attempt.job);
  }

  /** One loop turn of the reactor. */
  #turn(count: number): void {
    this.turn++;
    this.#depth++;
    this.#tick();
    const { events, text } = this.#reactor;
    for (let i = 0; i < count * EVENT_WORDS; i += EVENT_WORDS) {
      const head = events[i] as number;
      const id = events[i + 1] as number;
      const session = this.#connections.session(id);
      if (session === undefined) continue;
      try {
        const kind = head & 0xff;
        const a = events[i + 2] as number;
        const b = events[i + 3] as number;
        if (kind === EVENT.closed) this.#closed(session, a, b, head >>> 8 !== 0);
        else sessionEvent(session, kind, head >>> 8, a, b, text);
      } catch (error) {
        this.#breakOff(session, EVENT_NAMES[head & 0xff] ?? 'event', error);
      }
    }
    while (this.#touched.size > 0) this.#pumpTouched();
    this.#depth--;
    if (this.#depth === 0) this.#owed.flush(this.draining);
  }

  #closed(session: ClientSession, reason: number, errno: number, byProxy: boolean): void {
    const destination = this.#connections.closed(session);
    try {
      session.closed(reason, errno, byProxy);
    } catch (error) {
      this.#breakOff(session, 'closed', error, destination);
    }
    if (destination === undefined) return;
    destination.gone(session);
    this.#connections.freed(session, destination);
    destination.pump();
    if (destination.forgettable) this.#lanes.drop(destination);
  }

  /** Runs work that comes from outside a loop turn, then sends what it wrote and posts what it settled. */
  outside(work: () => void): void {
    if (this.#depth === 0) this.#tick();
    this.#depth++;
    try {
      work();
      while (this.#touched.size > 0) this.#pumpTouched();
      // A destination that was offered a place may not have needed it.
      if (this.#connections.waiting.any) this.#connections.waiting.feed();
    } finally {
      this.#depth--;
    }
    if (this.#depth > 0) return;
    this.#reactor.flush();
    this.#owed.flush(this.draining);
  }

  /** Takes new values of options that can change live. Open connections end after their present work. */
  reconfigure(config: Config): void {
    const isRouted = JSON.stringify(config.egress.routing) !== JSON.stringify(this.config.egress.routing);
    this.config = config;
    this.#router = this.#ports.createRouter(config);
    const egress = this.#ports.createEgress(config);
    this.departures.reconfigure(egress);
    this.outside(() => {
      const homeless: Job[] = [];
      for (const lane of this.#lanes) {
        // What its connections are busy with still ends there.
        if (isRouted || !egress.has(lane.source.name)) homeless.push(...lane.takeBack(() => true, false));
        if (egress.has(lane.source.name)) lane.source = egress.source(lane.source.name);
        lane.retire();
      }
      this.#owed.count -= homeless.length;
      this.#takeAll(homeless);
    });
  }

  /** Says which sources have no address on this host. */
  setMissingSources(sources: readonly string[]): void {
    this.departures.setMissing(sources);
  }

  /** An operator wants these destinations tried now. */
  resume(destinations: string[]): void {
    this.outside(() => {
      for (const key of destinations) for (const lane of this.#lanes.ofDestination(key)) lane.resume();
    });
  }

  /** Takes back the jobs meant that were not begun; what rules hold is tried at no further host. */
  takeBack(meant: TakenBack): Job[] {
    const isMeant = judgeOf(meant);
    const taken: Job[] = [];
    this.outside(() => {
      for (const { job } of this.departures.takeBack(isMeant)) taken.push(job);
      for (const destination of this.#lanes) taken.push(...destination.takeBack(isMeant, 'rules' in meant));
      for (const { job } of this.#ports.signing?.takeBack(isMeant) ?? []) taken.push(job);
      this.#owed.count -= taken.length;
    });
    return taken;
  }

  /** Finishes jobs on the wire within graceMs, then posts 'drained' with the jobs that were never begun. */
  drain(graceMs: number): void {
    if (this.draining) return;
    this.draining = true;
    this.#ports.setTimer(graceMs, () => {
      this.outside(() => {
        for (const destination of this.#lanes) destination.cut();
        this.#settler.giveUpWaiting();
      });
    });
    this.outside(() => {
      for (const attempt of this.departures.takeBack(() => true)) this.handBack(attempt);
      for (const destination of this.#lanes) destination.drain();
    });
  }

  /** Closes everything at once; for tests, and at the end. */
  destroy(): void {
    this.#reactor.destroy();
  }
}
