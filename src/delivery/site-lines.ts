/**
 * Lanes that wait for a connection of their site, in order, for each of the limit keys. A connection that is given back in
 * this thread goes to the first of them; one given back in another thread, or a rate that lets one through again, is seen when
 * the line is looked at.
 */
import type { LaneLimits } from '../shaping/lane-limits.ts';
import type { ClientSession } from './client/session.ts';
import type { LaneShare } from './lane-share.ts';

/** What is needed of a lane here. */
export interface InLine {
  readonly share: LaneShare;
  /** Opens connections that it wants and may have. */
  pump(): void;
}

export interface SiteLinesPorts {
  now(): number;
  setTimer(ms: number, fire: () => void): void;
  outside(work: () => void): void;
}

/** How soon a line is looked at again. */
const LOOK_MS = 100;

export class SiteLines<Lane extends InLine> {
  readonly #ports: SiteLinesPorts;
  /** By which limits each connection is counted. */
  readonly #countedBy = new Map<ClientSession, LaneLimits>();
  readonly #lines = new Map<LaneLimits, Map<Lane, number>>();
  readonly #limitsOf = new Map<Lane, LaneLimits>();
  /** Sessions without work, longest idle first. */
  readonly #idle = new Map<LaneLimits, Set<ClientSession>>();
  /** The one whose turn it is. */
  #fed: Lane | null = null;
  #timer = false;

  constructor(ports: SiteLinesPorts) {
    this.#ports = ports;
  }

  /**
   * Takes a connection, for `count` or to be given back to the limits. @returns false where there is none: then the lane is in
   * line, or, if that would take long, gives its mail back.
   */
  take(lane: Lane, limits: LaneLimits | null): boolean {
    const atMs = limits?.takeConnection(this.#ports.now()) ?? 0;
    if (atMs === 0 || limits === null) return true;
    if (atMs !== Number.POSITIVE_INFINITY) lane.share.limited(atMs);
    if (!lane.share.isClosed) this.wait(lane, limits, atMs);
    return false;
  }

  /** The connection that was taken is this session's. */
  count(session: ClientSession, limits: LaneLimits | null): void {
    if (limits !== null) this.#countedBy.set(session, limits);
  }

  /** It is ready for mail. */
  established(session: ClientSession): void {
    this.#countedBy.get(session)?.serves(1);
  }

  /** Its connection is closed, and goes to the first in line. */
  closed(session: ClientSession): void {
    const limits = this.#countedBy.get(session);
    if (limits === undefined) return;
    this.#countedBy.delete(session);
    if (session.served) limits.serves(-1);
    limits.freeConnection();
    this.#feed(limits, 1);
  }

  /** It has no work: the first in line may have a use for it. */
  rests(session: ClientSession): void {
    const limits = this.#countedBy.get(session);
    if (limits === undefined) return;
    const idle = this.#idle.get(limits);
    if (idle === undefined) this.#idle.set(limits, new Set([session]));
    else idle.add(session);
    this.#feed(limits, 1);
  }

  /** It works, or ends. */
  works(session: ClientSession): void {
    const limits = this.#countedBy.get(session);
    const idle = limits === undefined ? undefined : this.#idle.get(limits);
    if (limits === undefined || idle?.delete(session) !== true) return;
    if (idle.size === 0) this.#idle.delete(limits);
  }

  idleOf(limits: LaneLimits): Iterable<ClientSession> {
    return this.#idle.get(limits) ?? [];
  }

  /** Whether a lane of this thread waits for a connection, and one that is open may be kept for it. */
  isAwaited(limits: LaneLimits): boolean {
    return this.#lines.has(limits) && !limits.exceeded;
  }

  /** The lane got no connection. @param atMs when it may try again; Infinity: once one is given back. */
  wait(lane: Lane, limits: LaneLimits, atMs: number): void {
    this.leave(lane);
    const [resting] = atMs === Number.POSITIVE_INFINITY ? this.idleOf(limits) : [];
    const line = this.#lines.get(limits) ?? new Map<Lane, number>();
    // One without work that does not suit it makes room, and for this one first.
    if (resting === undefined) this.#join(lane, limits, line, atMs === Number.POSITIVE_INFINITY ? 0 : atMs);
    else this.#join(lane, limits, new Map([[lane, 0], ...line]), 0);
    resting?.quit();
  }

  #join(lane: Lane, limits: LaneLimits, line: Map<Lane, number>, atMs: number): void {
    this.#lines.set(limits, line.set(lane, atMs));
    this.#limitsOf.set(lane, limits);
    limits.waits(1);
    this.#look();
  }

  /** Whether it may dial, and not those first that wait; else it waits behind them. */
  mayDial(lane: Lane, limits: LaneLimits | null): boolean {
    if (limits === null || this.#fed === lane) return true;
    const line = this.#lines.get(limits);
    if (line === undefined || line.size === 0) return true;
    if (!line.has(lane)) {
      this.leave(lane);
      this.#join(lane, limits, line, 0);
    }
    return false;
  }

  /** It waits no more. */
  leave(lane: Lane): void {
    const limits = this.#limitsOf.get(lane);
    if (limits === undefined) return;
    this.#limitsOf.delete(lane);
    limits.waits(-1);
    const line = this.#lines.get(limits);
    line?.delete(lane);
    if (line?.size === 0) this.#lines.delete(limits);
  }

  #feed(limits: LaneLimits, most: number): void {
    const nowMs = this.#ports.now();
    let left = most;
    for (const [lane, atMs] of this.#lines.get(limits) ?? []) {
      if (left-- <= 0) return;
      if (atMs > nowMs) continue;
      this.leave(lane);
      this.#fed = lane;
      try {
        lane.pump();
      } finally {
        this.#fed = null;
      }
    }
  }

  #look(): void {
    if (this.#timer) return;
    this.#timer = true;
    this.#ports.setTimer(LOOK_MS, () => {
      this.#timer = false;
      this.#ports.outside(() => {
        // One at least: what keeps it may be a rate.
        for (const limits of [...this.#lines.keys()])
          this.#feed(limits, Math.max(1, limits.freeConnections + (this.#idle.get(limits)?.size ?? 0)));
      });
      if (this.#lines.size > 0) this.#look();
    });
  }
}
