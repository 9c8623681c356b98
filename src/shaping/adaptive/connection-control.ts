/**
 * How many connections the peer bears, learned from its refusals: halved by each, one more after half a minute of success. There
 * is no limit before the first refusal, and none any more once it has grown back to what else limits them. Where several processes share
 * them, the number is of all: each adds what it had open when one of them was refused. Pure, as the rate.
 */
import { MAX_OFFERS } from './cut.ts';

const STEP_MS = 30_000;

/** What one process tells the others. */
export interface ConnectionNews {
  epoch: number;
  /** -1: no limit. */
  most: number;
  /** What was the limit before the cut; -1: none. */
  before: number;
  /** Connections that processes had open at the cut. */
  open: readonly (readonly [process: string, connections: number])[];
}

export class ConnectionControl {
  #most = Number.POSITIVE_INFINITY;
  #cutMs = Number.NEGATIVE_INFINITY;
  #stepMs = 0;
  /** Time of day of the last cut. */
  #epoch = 0;
  #before = Number.POSITIVE_INFINITY;
  #open = new Map<string, number>();

  /** Infinity: none. */
  get most(): number {
    return this.#most;
  }

  /**
   * @param openedMs when the connection was begun that was refused, or told to go.
   * @param open connections that are open, this one included. @returns whether the limit is another one now.
   */
  refused(openedMs: number, open: number, nowMs: number, timeOfDayMs = nowMs, me = ''): boolean {
    if (openedMs < this.#cutMs) return false;
    const before = this.#most;
    this.#cut(Math.max(this.#epoch + 1, Math.floor(timeOfDayMs)), nowMs);
    this.#open = new Map([[me, open]]);
    this.#halve();
    return this.#most !== before;
  }

  /** The peer took messages. @param ceiling what else limits connections. @returns as refused. */
  succeeded(ceiling: number, nowMs: number): boolean {
    if (this.#most === Number.POSITIVE_INFINITY || nowMs - this.#stepMs < STEP_MS) return false;
    this.#stepMs = nowMs;
    this.#most = this.#most + 1 >= ceiling ? Number.POSITIVE_INFINITY : this.#most + 1;
    return true;
  }

  restore(most: number, nowMs: number): void {
    this.#most = Math.max(1, Math.floor(most));
    this.#cutMs = this.#stepMs = nowMs;
  }

  news(): ConnectionNews {
    return {
      epoch: this.#epoch,
      most: orNone(this.#most),
      before: orNone(this.#before),
      open: [...this.#open],
    };
  }

  /** @param open connections of this process. @returns as the rate's. */
  hear(news: ConnectionNews, me: string, open: number, nowMs: number): 'told' | 'taken' {
    if (news.epoch < this.#epoch) return 'told';
    const isNew = news.epoch > this.#epoch;
    if (isNew) {
      this.#cut(news.epoch, nowMs);
      this.#before = news.before < 0 ? Number.POSITIVE_INFINITY : news.before;
      this.#open = new Map();
    }
    const known = this.#open.size;
    for (const [process, connections] of news.open) this.#add(process, connections);
    const adds = isNew && open > 0 && news.open.length > 0 && !this.#open.has(me);
    if (adds) this.#add(me, open);
    const most = news.most < 0 ? Number.POSITIVE_INFINITY : news.most;
    if (this.#open.size > known) this.#halve();
    else if (isNew || most > this.#most) {
      this.#most = most;
      this.#stepMs = nowMs;
    }
    return adds ? 'told' : 'taken';
  }

  #add(process: string, connections: number): void {
    if (this.#open.size < MAX_OFFERS && !this.#open.has(process)) this.#open.set(process, connections);
  }

  #cut(epoch: number, nowMs: number): void {
    this.#epoch = epoch;
    this.#before = this.#most;
    this.#cutMs = this.#stepMs = nowMs;
  }

  #halve(): void {
    let open = 0;
    for (const connections of this.#open.values()) open += connections;
    // What is open can be less than the limit, never more of use than it.
    this.#most = Math.max(1, Math.floor(Math.min(this.#before, Math.max(1, open)) / 2));
  }
}

const orNone = (most: number): number => (Number.isFinite(most) ? most : -1);
