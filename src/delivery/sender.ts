/**
 * The work of a delivery thread: takes jobs, keeps the destinations, carries the reactor's events to the sessions, and
 * collects results for one post per loop turn. Keeps every limit of the thread as a whole. thread.ts runs it.
 */
import { BrokenInvariant } from '../base/broken-invariant.ts';
import type { Config } from '../config/schema.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import { ResultBatch } from '../mail/job-wire.ts';
import type { PeerReply } from '../mail/outcome.ts';
import { judgeOf, type TakenBack } from '../mail/suspension.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { Verdict } from '../mail/verdict.ts';
import { type Arena, EVENT, EVENT_WORDS, type Reactor } from '../native.ts';
import type { ConnectionGrant } from '../scheduler/connections.ts';
import type { LaneLimits } from '../shaping/lane-limits.ts';
import type { Site } from '../shaping/sites.ts';
import { Attempt } from './attempt.ts';
import { ClientSession } from './client/session.ts';
import { transactionIn } from './client/state.ts';
import { Destination } from './destination.ts';
import type { DestinationPorts } from './destination-ports.ts';
import { GrantedConnections } from './granted-connections.ts';
import { Lanes } from './lanes.ts';
import { byFirstDigit, deferred, internal, unsigned } from './outcome.ts';
import { RememberedHosts } from './remembered-hosts.ts';
import type { Host, Route, Router } from './route.ts';
import type { SenderPorts, SigningVerdict } from './sender-ports.ts';
import { EVENT_NAMES, sessionEvent } from './session-events.ts';
import { Settler } from './settle.ts';
import { SiteLines } from './site-lines.ts';
import { DEFAULT_SOURCE } from './source.ts';
import { endSuppressed, unbegun } from './unbegun.ts';
import { WaitingDestinations } from './waiting-destinations.ts';

/** How often results that wait for memory try again. */
const MEMORY_RETRY_MS = 50;

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
  #router: Router;
  #nowMs: number;
  #wallMs: number;
  /** Sessions by connection id. */
  readonly #sessions = new Map<number, ClientSession>();
  readonly #destinationOf = new Map<ClientSession, Destination>();
  readonly #lanes: Lanes;
  readonly gates: DestinationPorts<Destination>['gates'];
  readonly #siteLines: SiteLines<Destination>;
  /** Idle sessions, longest idle first. */
  readonly #idle = new Set<ClientSession>();
  readonly #waiting: WaitingDestinations;
  returnPaths: DestinationPorts<Destination>['returnPaths'] = null;
  /** Number of jobs taken and not yet answered. */
  #held = 0;
  readonly #results = new ResultBatch();
  #unfinished: Job[] = [];
  #drained = false;
  #depth = 0;
  #memoryTimer = false;
  readonly #granted: GrantedConnections;

  constructor(ports: SenderPorts) {
    this.#ports = ports;
    this.gates = ports.gates ?? { take: () => 0, refusedBy: '' };
    this.config = ports.config;
    this.arena = ports.arena;
    this.tlsSlot = ports.tlsSlot;
    this.tlsSession = ports.tlsSession ?? (() => {});
    this.classify = ports.classify ?? byFirstDigit;
    this.#nowMs = ports.now();
    this.#wallMs = this.#nowMs;
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
    this.#waiting = new WaitingDestinations({
      places: () => this.config.delivery.max_connections - this.#destinationOf.size,
      waitMs: () => this.config.delivery.backlog_wait_ms,
      ...timing,
    });
    this.#siteLines = new SiteLines({ now: () => this.#nowMs, idle: this.#idle, ...timing });
    this.#lanes = new Lanes(
      (key, source) => new Destination(key, source, this),
      (lane) => {
        this.#siteLines.leave(lane);
        lane.share.leave();
      },
    );
    const sender = this;
    this.#settler = new Settler({
      arena: ports.arena,
      dsn: ports.dsn,
      nextAttempt: ports.retry.nextAttempt,
      random: ports.random,
      now: () => this.#nowMs,
      wall: () => this.#wallMs,
      result: (result) => this.#result(result),
      get config() {
        return sender.config;
      },
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
    return this.#waiting.asks(this.#router.route(destination));
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

  enter({ key, source }: Destination, site: Site): Promise<LaneLimits> {
    const limits = this.#ports.limits as NonNullable<SenderPorts['limits']>;
    limits.belongs(key, site);
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

  /** Sets how many connections this thread may open, of those that all nodes share. */
  grantConnections(grants: ConnectionGrant[]): void {
    this.outside(() => this.#granted.granted(grants));
  }

  /** Takes a batch of jobs; each comes back as a result, or unfinished when a drain overtakes it. */
  accept(jobs: Job[]): void {
    const all = jobs.map((job) => ({ attempt: new Attempt(job) }));
    this.#each(all, ({ attempt }, touched) => {
      this.#held++;
      if (this.draining) this.handBack(attempt);
      else if (!this.#refuse(attempt)) this.#enter(attempt, this.#ports.signing?.take(attempt), touched);
    });
    this.#ports.signing?.flush();
  }

  /** It is known what becomes of attempts that `signing` kept. */
  signed(all: { attempt: Attempt; verdict: SigningVerdict }[]): void {
    this.#each(all, ({ attempt, verdict }, touched) => this.#enter(attempt, verdict, touched));
  }

  #each<T extends { attempt: Attempt }>(all: T[], work: (one: T, touched: Set<Destination>) => void): void {
    this.outside(() => {
      const touched = new Set<Destination>();
      for (const one of all) {
        try {
          work(one, touched);
        } catch (error) {
          this.fault(one.attempt.job.destination, 'accept', error);
          if (one.attempt.ended) continue;
          one.attempt.decideRest(internal('accept'));
          this.finished(one.attempt);
        }
      }
      for (const destination of touched) destination.pump();
    });
  }

  /** @param verdict null: it is told later; absent: nothing is signed here. */
  #enter(attempt: Attempt, verdict: SigningVerdict | null | undefined, touched: Set<Destination>): void {
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
    const destination = this.#lanes.of(attempt.job.destination, DEFAULT_SOURCE);
    destination.accept(attempt);
    touched.add(destination);
  }

  /** Whether the attempt is not begun at all: it is over, or there are more jobs than agreed. */
  #refuse(attempt: Attempt): boolean {
    const { retry, delivery } = this.config;
    endSuppressed(attempt);
    const outcome = unbegun(attempt.job, retry, this.#ports.retry.isTooOld, this.#wallMs);
    if (outcome !== null) attempt.decideRest(outcome);
    else if (this.#held > delivery.max_handoff_messages) {
      const detail = 'more messages than delivery.max_handoff_messages';
      attempt.notBeforeMs = this.#nowMs + Math.min(1000, retry.initial_delay_ms);
      attempt.decideRest(deferred('hand_off_released', null, detail));
    } else if (!attempt.done) return false;
    this.finished(attempt);
    return true;
  }

  mayDial(destination: Destination): boolean {
    return (
      this.#siteLines.mayDial(destination, destination.share.limits) && this.#waiting.mayDial(destination)
    );
  }

  connect(destination: Destination, host: Host): ClientSession | null {
    const { max_connections, source_address, connect_timeout_ms } = this.config.delivery;
    const from = destination.source.address ?? source_address ?? '';
    const { limits } = destination.share;
    let id = -1;
    if (this.#destinationOf.size < max_connections) {
      if (!this.#siteLines.take(destination, limits)) return null;
      id = this.#reactor.connect(host.address, host.port, from, connect_timeout_ms);
      if (id === -1) limits?.freeConnection();
    }
    if (id === -1) {
      this.#waiting.starve(destination);
      // An idle session makes room: its closed event gives the place to the next destination in line.
      for (const session of this.#idle) {
        session.quit();
        break;
      }
      return null;
    }
    const reader = this.#ports.transcript?.(id, destination.key) ?? null;
    const session = new ClientSession(id, host, this.#reactor, destination, reader);
    this.#sessions.set(id, session);
    this.#destinationOf.set(session, destination);
    this.#siteLines.count(session, limits);
    return session;
  }

  idle(session: ClientSession): void {
    this.#idle.add(session);
    // Another destination waits for a connection, so the idle session ends.
    if (this.#waiting.any) session.quit();
  }

  busy(session: ClientSession): void {
    this.#idle.delete(session);
  }

  waits(destination: Destination): void {
    this.#waiting.later(destination);
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
    // Making its DSN may end the process, too.
    this.begun(attempt);
    try {
      this.#settler.finish(attempt);
    } catch (error) {
      this.fault(attempt.job.destination, 'settle', error);
      if (!attempt.ended) this.#settler.finishPlainly(attempt, internal('settle'));
    }
    this.rests(attempt);
    if (this.#settler.waiting > 0 && !this.#memoryTimer) this.#waitForMemory();
  }

  #waitForMemory(): void {
    this.#memoryTimer = true;
    this.#ports.setTimer(MEMORY_RETRY_MS, () => {
      this.#memoryTimer = false;
      this.outside(() => {
        try {
          this.#settler.retryWaiting();
        } catch (error) {
          this.fault('', 'settle', error);
        }
        if (this.#settler.waiting > 0) this.#waitForMemory();
      });
    });
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
    destination = this.#destinationOf.get(session),
  ): void {
    this.fault(destination?.key ?? '', at, error, session);
    const charged = session.breakOff(internal(at), (attempt) => this.finished(attempt));
    try {
      destination?.broken(session, { reason: 'internal_error', reply: null, detail: at }, charged);
    } catch (second) {
      this.fault(destination?.key ?? '', 'end', second, session);
    }
  }

  #result(result: AttemptResult): void {
    this.#held--;
    this.#results.add(result);
  }

  handBack(attempt: Attempt): void {
    attempt.ended = true;
    this.#held--;
    this.#unfinished.push(attempt.job);
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
      const session = this.#sessions.get(id);
      if (session === undefined) continue;
      try {
        const kind = head & 0xff;
        const a = events[i + 2] as number;
        const b = events[i + 3] as number;
        if (kind === EVENT.closed) this.#closed(session, a, b);
        else sessionEvent(session, kind, head >>> 8, a, b, text);
      } catch (error) {
        this.#breakOff(session, EVENT_NAMES[head & 0xff] ?? 'event', error);
      }
    }
    this.#depth--;
    if (this.#depth === 0) this.#flushResults();
  }

  #closed(session: ClientSession, reason: number, errno: number): void {
    this.#sessions.delete(session.id);
    const destination = this.#destinationOf.get(session);
    this.#destinationOf.delete(session);
    this.#idle.delete(session);
    try {
      session.closed(reason, errno);
    } catch (error) {
      this.#breakOff(session, 'closed', error, destination);
    }
    if (destination === undefined) return;
    destination.gone(session);
    this.#siteLines.closed(session);
    this.#waiting.freed();
    destination.pump();
    if (destination.forgettable) this.#lanes.drop(destination);
  }

  /** Runs work that comes from outside a loop turn, then sends what it wrote and posts what it settled. */
  outside(work: () => void): void {
    if (this.#depth === 0) this.#tick();
    this.#depth++;
    try {
      work();
      // A destination that was offered a place may not have needed it.
      if (this.#waiting.any) this.#waiting.feed();
    } finally {
      this.#depth--;
    }
    if (this.#depth > 0) return;
    this.#reactor.flush();
    this.#flushResults();
  }

  #flushResults(): void {
    const results = this.#results.take();
    if (results !== null) this.#ports.post({ type: 'results', ...results });
    if (this.draining && !this.#drained && this.#held === 0) this.#finishDrain();
  }

  /** Takes new values of options that can change live. Open connections end after their present work. */
  reconfigure(config: Config): void {
    this.config = config;
    this.#router = this.#ports.createRouter(config);
    this.outside(() => {
      for (const destination of this.#lanes) destination.retire();
    });
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
      for (const destination of this.#lanes) taken.push(...destination.takeBack(isMeant, 'rules' in meant));
      for (const { job } of this.#ports.signing?.takeBack(isMeant) ?? []) taken.push(job);
      this.#held -= taken.length;
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
      for (const destination of this.#lanes) destination.drain();
    });
  }

  #finishDrain(): void {
    this.#drained = true;
    this.#ports.post({ type: 'drained', unfinished: this.#unfinished });
    this.#unfinished = [];
  }

  /** Closes everything at once; for tests, and at the end. */
  destroy(): void {
    this.#reactor.destroy();
  }
}
