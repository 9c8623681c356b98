/**
 * The limits of a site for what leaves from one source, as a delivery thread asks them: those of the source there, and those
 * of the site in all (`total_…`). Every answer is at once, from shared memory.
 */

import type { LimitSign } from './limit-key.ts';
import type { LimitSlot } from './limit-table.ts';
import type { Limits } from './limits.ts';
import type { Site } from './sites.ts';

export class LaneLimits {
  readonly site: Site;
  readonly source: string;
  /** What the data say besides what the slots count. */
  readonly fixed: Limits;
  readonly #own: LimitSlot;
  /** null: nothing is limited in all. */
  readonly #total: LimitSlot | null;
  /** The slot that refused last. */
  #refuser: LimitSlot;
  readonly #tell: (sign: Omit<LimitSign, 'key'>) => void;

  /** @param tell takes what the ends of connections say of the peer's own limits. */
  constructor(
    site: Site,
    source: string,
    fixed: Limits,
    own: LimitSlot,
    total: LimitSlot | null,
    tell: (sign: Omit<LimitSign, 'key'>) => void,
  ) {
    this.site = site;
    this.source = source;
    this.fixed = fixed;
    this.#own = own;
    this.#total = total;
    this.#refuser = own;
    this.#tell = tell;
  }

  /** @returns 0: granted. Else when to come again, in steady time; Infinity: when a connection is given back. */
  takeConnection(nowMs: number): number {
    return this.#take(nowMs, takeConnection, freeConnection);
  }

  freeConnection(): void {
    freeConnection(this.#own);
    if (this.#total !== null) freeConnection(this.#total);
  }

  /** @returns 0: granted. Else when to come again, in steady time. */
  takeMessage(nowMs: number): number {
    return this.#take(nowMs, takeMessage, giveBackMessage);
  }

  /** The message did not go. */
  giveBackMessage(): void {
    giveBackMessage(this.#own);
    if (this.#total !== null) giveBackMessage(this.#total);
  }

  #take(
    nowMs: number,
    take: (slot: LimitSlot, nowMs: number) => number,
    giveBack: (slot: LimitSlot) => void,
  ): number {
    const atMs = take(this.#own, nowMs);
    if (atMs !== 0) {
      this.#refuser = this.#own;
      return atMs;
    }
    if (this.#total === null) return 0;
    const totalAtMs = take(this.#total, nowMs);
    if (totalAtMs === 0) return 0;
    giveBack(this.#own);
    this.#refuser = this.#total;
    return totalAtMs;
  }

  get hasTotal(): boolean {
    return this.#total !== null;
  }

  /** What the last refusal was about: `messages_per_h of google`, `total_max_connections of google`. */
  get refusal(): string {
    const { refusedBy, closedBy } = this.#refuser;
    const name = refusedBy === 'closed' ? `pause (${closedBy})` : refusedBy;
    const limit = this.#refuser === this.#total && refusedBy !== 'closed' ? `total_${name}` : name;
    return `${limit} of ${this.site.key}${this.source === '' ? '' : ` from ${this.source}`}`;
  }

  /** At least one, which is asked for where none is allowed now. */
  get maxConnections(): number {
    const own = this.#own.maxConnections;
    return Math.max(1, this.#total === null ? own : Math.min(own, this.#total.maxConnections));
  }

  get messagesPerConnection(): number {
    return this.#own.messagesPerConnection;
  }

  /** How many more connections may be open now. */
  get freeConnections(): number {
    const own = this.#own.maxConnections - this.#own.open;
    return this.#total === null ? own : Math.min(own, this.#total.maxConnections - this.#total.open);
  }

  /** Whether somebody waits for a connection, in whatever thread: then none is kept without work. */
  get crowded(): boolean {
    return isCrowded(this.#own) || (this.#total !== null && isCrowded(this.#total));
  }

  /** Whether more connections are open than are allowed now. */
  get exceeded(): boolean {
    return isExceeded(this.#own) || (this.#total !== null && isExceeded(this.#total));
  }

  /** Whether more connections are open than are allowed now: then whoever asks closes one. */
  leaves(): boolean {
    return this.#own.leaves() || this.#total?.leaves() === true;
  }

  /** A destination begins to wait for a connection, or waits no more. */
  waits(by: 1 | -1): void {
    this.#own.waits(by);
    this.#total?.waits(by);
  }

  /** A connection could not be opened; the last of several in a row makes a pause for the whole site. */
  connectFailed(nowMs: number): void {
    const { connect_failures_before_pause: most, pause_ms } = this.fixed;
    if (most === undefined || this.#own.connectFailed() < most) return;
    this.#own.served();
    this.#own.close(nowMs + (pause_ms ?? DEFAULT_PAUSE_MS), 'connect_failures');
  }

  /** A connection is ready for mail, or one that was is closed. */
  serves(by: 1 | -1): void {
    this.#own.serves(by);
  }

  /** The peer takes no more on a connection that carried so many messages. */
  usedUp(messages: number, isSaid: boolean, reply: string, begunMs: number): void {
    this.#tell({ of: 'messages', count: messages, isSaid, reply, begunMs });
  }

  /** The peer takes no further connection beside those that it serves. @param less those of them that it refuses now. */
  refused(less: number, isSaid: boolean, reply: string, begunMs: number): void {
    const count = this.#own.serving - less;
    if (count > 0) this.#tell({ of: 'connections', count, isSaid, reply, begunMs });
  }

  /** The peer took a MAIL. */
  served(): void {
    this.#own.served();
  }
}

/** The pause after connections that failed, where the data do not say. */
const DEFAULT_PAUSE_MS = 60_000;

const isExceeded = ({ open, maxConnections }: LimitSlot): boolean => open > maxConnections;
const isCrowded = (slot: LimitSlot): boolean => slot.waiting > 0 || isExceeded(slot);
const takeConnection = (slot: LimitSlot, nowMs: number): number => slot.takeConnection(nowMs);
const freeConnection = (slot: LimitSlot): void => slot.freeConnection();
const takeMessage = (slot: LimitSlot, nowMs: number): number => slot.takeMessage(nowMs);
const giveBackMessage = (slot: LimitSlot): void => slot.giveBackMessage();
