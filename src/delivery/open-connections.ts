/**
 * The connections of a delivery thread: opens one where the limits of thread, source and site allow, else sees that the lane
 * is called when there may be one; knows whose each is, and which are without work.
 */
import type { Config } from '../config/schema.ts';
import type { Reactor } from '../native.ts';
import type { LaneLimits } from '../shaping/lane-limits.ts';
import { ClientSession } from './client/session.ts';
import type { DialogReader } from './client/transcript.ts';
import type { Destination } from './destination.ts';
import type { Host } from './route.ts';
import { servesToo } from './security/shared-session.ts';
import { SiteLines } from './site-lines.ts';
import { WaitingDestinations } from './waiting-destinations.ts';

export interface OpenConnectionsPorts {
  readonly rules: Config['delivery'];
  readonly reactor: Reactor;
  now(): number;
  setTimer(ms: number, fire: () => void): void;
  outside(work: () => void): void;
  transcript(connection: number, destination: string): DialogReader | null;
}

export class OpenConnections {
  readonly waiting: WaitingDestinations;
  readonly #ports: OpenConnectionsPorts;
  /** By connection id. */
  readonly #sessions = new Map<number, ClientSession>();
  readonly #laneOf = new Map<ClientSession, Destination>();
  /** Sessions without work, longest idle first. */
  readonly #idle = new Set<ClientSession>();
  readonly #siteLines: SiteLines<Destination>;
  /** How many there are from each source but the default one. */
  readonly #from = new Map<string, number>();

  constructor(ports: OpenConnectionsPorts) {
    this.#ports = ports;
    this.waiting = new WaitingDestinations({
      places: () => ports.rules.max_connections - this.#laneOf.size,
      waitMs: () => ports.rules.backlog_wait_ms,
      setTimer: (ms, fire) => ports.setTimer(ms, fire),
      outside: (work) => ports.outside(work),
    });
    this.#siteLines = new SiteLines({
      now: () => ports.now(),
      setTimer: (ms, fire) => ports.setTimer(ms, fire),
      outside: (work) => ports.outside(work),
    });
  }

  session(id: number): ClientSession | undefined {
    return this.#sessions.get(id);
  }

  laneOf(session: ClientSession): Destination | undefined {
    return this.#laneOf.get(session);
  }

  mayDial(lane: Destination): boolean {
    return this.#siteLines.mayDial(lane, lane.share.limits) && this.waiting.mayDial(lane);
  }

  /** @returns null where there is no connection to be had now: `pump` of the lane is called when there may be. */
  open(lane: Destination, host: Host): ClientSession | null {
    const { rules, reactor, transcript } = this.#ports;
    const { source } = lane;
    const { limits } = lane.share;
    if ((this.#from.get(source.name) ?? 0) >= source.maxConnections) {
      this.waiting.later(lane);
      return null;
    }
    let id = -1;
    if (this.#laneOf.size < rules.max_connections) {
      if (!this.#siteLines.take(lane, limits)) return null;
      const { address, port, from, hop } = source.way(host);
      id = reactor.connect(address, port, from, rules.connect_timeout_ms, hop);
      if (id === -1) limits?.freeConnection();
    }
    if (id === -1) {
      this.#starve(lane);
      return null;
    }
    const session = new ClientSession(id, host, reactor, lane, transcript(id, lane.key));
    this.#sessions.set(id, session);
    this.#laneOf.set(session, lane);
    this.#siteLines.count(session, limits);
    this.#countFrom(source.name, 1);
    return session;
  }

  /** A session without work of another lane with the same limits, moved to this one. */
  adopt(lane: Destination, hosts: readonly Host[]): { session: ClientSession; from: Destination } | null {
    const { limits } = lane.share;
    if (limits === null) return null;
    const { policy } = lane.tls;
    for (const session of this.#siteLines.idleOf(limits)) {
      const from = this.#laneOf.get(session);
      const host = session.full ? undefined : hosts.find((one) => servesToo(session, one, policy));
      if (host === undefined || from === undefined || from === lane) continue;
      this.busy(session);
      from.release(session);
      this.#laneOf.set(session, lane);
      session.moveTo(lane, host);
      return { session, from };
    }
    return null;
  }

  isAwaited(limits: LaneLimits): boolean {
    return this.#siteLines.isAwaited(limits);
  }

  /** An idle session makes room: its closed event gives the place to the next destination in line. */
  #starve(lane: Destination): void {
    this.waiting.starve(lane);
    for (const session of this.#idle) {
      session.quit();
      break;
    }
  }

  #countFrom(source: string, by: 1 | -1): void {
    if (source !== '') this.#from.set(source, (this.#from.get(source) ?? 0) + by);
  }

  established(session: ClientSession): void {
    this.#siteLines.established(session);
  }

  idle(session: ClientSession): void {
    this.#idle.add(session);
    // Another destination waits for a connection, so the idle session ends.
    if (this.waiting.any) session.quit();
    else this.#siteLines.rests(session);
  }

  busy(session: ClientSession): void {
    this.#idle.delete(session);
    this.#siteLines.works(session);
  }

  /** The connection is closed. The session is told next, and then `freed` is to be called. */
  closed(session: ClientSession): Destination | undefined {
    const lane = this.#laneOf.get(session);
    this.#sessions.delete(session.id);
    this.#laneOf.delete(session);
    this.busy(session);
    return lane;
  }

  /** Gives the place of a closed connection to others. */
  freed(session: ClientSession, lane: Destination): void {
    this.#siteLines.closed(session);
    this.#countFrom(lane.source.name, -1);
    this.waiting.freed();
  }

  /** The lane is forgotten. */
  leave(lane: Destination): void {
    this.#siteLines.leave(lane);
  }
}
