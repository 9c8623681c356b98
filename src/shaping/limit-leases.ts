/**
 * The parts of the limits of sites that this process has, where it shares them with others. For each key that mail goes to,
 * connections and a part of the rates are leased: once a second, and when connections are first waited for. A key that has
 * no part lets no connection be opened; one that was idle for some time gives its part back.
 */
import { type LimitKey, limitKeyText } from './limit-key.ts';
import type { LimitSlot } from './limit-table.ts';
import type { Limits } from './limits.ts';
import { RATE_NAMES } from './rate.ts';
import { ALL, type Share } from './slot-limits.ts';

export interface LeaseDemand {
  name: string;
  limit: number;
  wanted: number;
  /** What may be in use here until the answer is there. */
  held: number;
  /** What was granted last. */
  granted: number;
}

export interface LimitLeasesPorts {
  /** Steady time. */
  now(): number;
  /** Number of processes that share the limits, as far as is known. */
  sharers(): number;
  limitsOf(key: LimitKey): Limits;
  /** Writes the key's limits into its slot, by its share as of now. */
  rewrite(name: string): void;
  /** Whether it has this slot still. */
  holds(name: string, slot: LimitSlot): boolean;
  /** @returns what each demand is granted, in order. It does not fail. */
  lease(demands: readonly LeaseDemand[]): Promise<number[]>;
}

/** The rates of a key are leased together, in so many parts. */
const PARTS = 1000;
/** A process that sends keeps so many of them, to begin more with. */
const LEAST_PARTS = 20;
const LEASE_MS = 1000;
/** After a part became smaller, the others are to know soon. */
const SOON_MS = 50;
/** Having nothing, this often it is asked. */
const WAITS_MS = 250;
const IDLE_MS = 10_000;
/** What is not used becomes smaller by this, at each look. */
const SHRINKS = 0.75;

/** Where there is no limit of connections, none are leased. */
interface Leased {
  readonly key: LimitKey;
  readonly name: string;
  readonly slot: LimitSlot;
  connections: number;
  parts: number;
  /** There is a part of everything that is limited. */
  isOpen: boolean;
  /** Its first part is asked for: mail is about to go. */
  isNew: boolean;
  usedMs: number;
  lookMs: number;
}

export class LimitLeases {
  readonly #ports: LimitLeasesPorts;
  readonly #leased = new Map<string, Leased>();
  #looking = false;

  constructor(ports: LimitLeasesPorts) {
    this.#ports = ports;
  }

  /** A key got its slot. */
  begins(key: LimitKey, slot: LimitSlot): void {
    const name = limitKeyText(key);
    const nowMs = this.#ports.now();
    const nothing = { connections: 0, parts: 0, isOpen: false, isNew: true };
    this.#leased.set(name, { key, name, slot, ...nothing, usedMs: nowMs, lookMs: nowMs });
  }

  share(key: LimitKey): Share {
    const { most, isRated } = this.#kindsOf(key);
    if (most === 0 && !isRated) return ALL;
    const leased = this.#leased.get(limitKeyText(key));
    // Rates as of an equal part are for those who look ahead: nothing goes without a connection.
    if (!leased?.isOpen) return { part: 1 / this.#ports.sharers(), connections: 0, isLease: true };
    const connections = most === 0 ? null : Math.min(leased.connections, most);
    // A rate that is new here, by a reload or learned just now, has no part before the next look.
    const part = isRated && leased.parts === 0 ? 1 / this.#ports.sharers() : leased.parts / PARTS;
    return { part, connections, isLease: true };
  }

  /** To be called often: most times there is nothing to do. */
  async look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const nowMs = this.#ports.now();
    const due: Leased[] = [];
    for (const leased of this.#leased.values())
      if (leased.lookMs <= nowMs && this.#isDue(leased, nowMs)) due.push(leased);
    if (due.length > 0) await this.#lease(due, nowMs);
    this.#looking = false;
  }

  async #lease(due: readonly Leased[], nowMs: number): Promise<void> {
    const demands: LeaseDemand[] = [];
    const places = due.map((leased) =>
      this.#demands(leased, nowMs).map((demand) => (demand === null ? -1 : demands.push(demand) - 1)),
    );
    const granted = demands.length === 0 ? [] : await this.#ports.lease(demands);
    for (const [i, leased] of due.entries()) {
      const [connections = 0, parts = 0] = (places[i] as number[]).map((place) => granted[place] ?? 0);
      this.#take(leased, connections, parts);
    }
  }

  #kindsOf(key: LimitKey): { most: number; isRated: boolean } {
    const limits = this.#ports.limitsOf(key);
    return {
      most: limits.max_connections ?? 0,
      isRated: RATE_NAMES.some((rate) => (limits[rate] ?? 0) > 0),
    };
  }

  #isDue(leased: Leased, nowMs: number): boolean {
    const { slot, name, connections, parts, isNew } = leased;
    if (isNew || slot.waiting > 0 || slot.open > 0) leased.usedMs = nowMs;
    if (leased.usedMs === nowMs || connections + parts > 0) return true;
    if (!this.#ports.holds(name, slot)) this.#leased.delete(name);
    return false;
  }

  /**
   * Of connections, then of parts of rates; null: nothing is limited, and nothing held. What is to become smaller does so
   * before it is told.
   */
  #demands(leased: Leased, nowMs: number): (LeaseDemand | null)[] {
    const { key, name, slot, isOpen } = leased;
    const { most, isRated } = this.#kindsOf(key);
    let connections = Math.max(slot.open + 1, Math.floor(leased.connections * SHRINKS));
    let parts = Math.max(LEAST_PARTS, Math.floor(leased.parts * SHRINKS));
    if (!isOpen || slot.waiting > 0) connections = most;
    if (!isOpen || slot.presses(nowMs)) parts = PARTS;
    if (this.#givesBack(leased, nowMs)) [connections, parts] = [0, 0];
    connections = Math.min(connections, most);
    if (!isRated) parts = 0;
    const { connections: hadConnections, parts: hadParts } = leased;
    leased.connections = Math.min(leased.connections, connections);
    leased.parts = Math.min(leased.parts, parts);
    if (leased.connections < hadConnections || leased.parts < hadParts) this.#ports.rewrite(name);
    const held = connections === 0 ? 0 : Math.max(leased.connections, slot.open);
    const demand = (kind: string, limit: number, wanted: number, held: number, granted: number) => ({
      name: `limit:${name}:${kind}`,
      limit,
      wanted,
      held,
      granted,
    });
    return [
      most === 0 && hadConnections === 0
        ? null
        : demand('connections', Math.max(1, most), connections, held, leased.connections),
      !isRated && hadParts === 0 ? null : demand('rates', PARTS, parts, leased.parts, leased.parts),
    ];
  }

  /** Closes a key that was idle. @returns false where a connection was opened meanwhile. */
  #givesBack(leased: Leased, nowMs: number): boolean {
    if (nowMs - leased.usedMs < IDLE_MS) return false;
    const was = leased.isOpen;
    leased.isOpen = false;
    this.#ports.rewrite(leased.name);
    if (leased.slot.open === 0) return true;
    leased.isOpen = was;
    this.#ports.rewrite(leased.name);
    return false;
  }

  #take(leased: Leased, connections: number, parts: number): void {
    const { most, isRated } = this.#kindsOf(leased.key);
    const isLess = connections < leased.connections || parts < leased.parts;
    const isOpen = (most === 0 || connections > 0) && (!isRated || parts > 0) && connections + parts > 0;
    const opens = isOpen && !leased.isOpen;
    Object.assign(leased, { connections, parts, isOpen, isNew: false });
    this.#ports.rewrite(leased.name);
    const nowMs = this.#ports.now();
    if (opens) leased.slot.beginEmpty(nowMs);
    const isFree = most === 0 && !isRated;
    leased.lookMs = nowMs + (isLess ? SOON_MS : isOpen || isFree ? LEASE_MS : WAITS_MS);
  }
}
