/**
 * The limits of all sites of a process, on the main thread: hands out slots of the shared table to delivery threads, and
 * writes into each the least of what the data say and of the caps that others set (what is learned of a peer, adaptive
 * control). Slots are few and keys come and go: one that nobody uses, and whose counts have run down, is given away.
 */
import { type LimitKey, type LimitNews, limitKeyText, type SlotOf } from './limit-key.ts';
import { type ClosedReason, LimitSlot, SLOTS } from './limit-table.ts';
import type { Limits } from './limits.ts';
import { RATE_NAMES, type RateName } from './rate.ts';
import { limitsOfSource, type Provider, type ShapingData } from './shaping-data.ts';
import { type Share, slotLimits } from './slot-limits.ts';

/** What may be capped besides the data, in this process: the least holds. */
export type Cap = Pick<
  Limits,
  | 'max_connections'
  | 'messages_per_connection'
  | 'connections_per_min'
  | 'messages_per_s'
  | 'messages_per_h'
  | 'messages_per_day'
>;

export interface LimitKeysPorts {
  table: SharedArrayBuffer;
  /** Steady time. */
  now(): number;
  /** What this process may use of the limits of a key. */
  share(key: LimitKey): Share;
  /** The table is full, so a key's limits hold for each delivery thread alone. */
  full(): void;
  /** A key got a slot, and nothing has gone by it yet: what else limits it is to be set now. */
  begins?(key: LimitKey, slot: LimitSlot): void;
  /** A key loses its slot. */
  ends?(key: LimitKey, slot: LimitSlot): void;
  /** Sources that mail of this one may leave by when it is limited there. */
  others?(key: LimitKey): readonly string[];
}

interface SetCap {
  cap: Cap;
  isShared: boolean;
}

/** How much of its rates a key had used up when it was written down: ends of their counts, as times of day. */
export type Counts = Partial<Record<RateName, number>>;

interface Entry {
  key: LimitKey;
  slot: LimitSlot;
  /** Delivery threads that use it. */
  users: Set<number>;
}

/** All that is said of a key, for operators. */
export interface KeyStanding {
  data: Limits;
  caps: readonly (readonly [by: string, cap: Cap, isShared: boolean])[];
  /** Steady times. */
  closed: readonly (readonly [by: ClosedReason, untilMs: number, sinceMs: number])[];
  /** null: nothing goes by it now. */
  slot: LimitSlot | null;
  /** What of the data this process may use. */
  share: Share;
}

/** How far ahead the scheduler looks when it hands over mail. */
const AHEAD_MS = 1000;

export class LimitKeys {
  readonly #ports: LimitKeysPorts;
  readonly #entries = new Map<string, Entry>();
  readonly #bySite = new Map<string, Entry[]>();
  /** By key, also of keys that have no slot now; whoever sets them keeps them few. */
  readonly #caps = new Map<string, Map<string, SetCap>>();
  /** When keys open again, by who closed them. */
  readonly #closed = new Map<string, Map<ClosedReason, number>>();
  /** When that began; of what is closed. */
  readonly #closedSince = new Map<string, number>();
  readonly #free: number[] = [];
  #next = 0;
  #data: ShapingData;
  #providers = new Map<string, Provider>();
  /** Counts of an earlier life, for keys that have not come up yet; in microseconds of steady time. */
  readonly #restored = new Map<string, Counts>();

  constructor(data: ShapingData, ports: LimitKeysPorts) {
    this.#ports = ports;
    this.#data = data;
    this.reconfigure(data);
  }

  /** Number of keys that have a slot. */
  get size(): number {
    return this.#entries.size;
  }

  /** Takes new data, or a new share. */
  reconfigure(data: ShapingData): void {
    this.#data = data;
    this.#providers = new Map(data.providers.map((provider) => [provider.name, provider]));
    for (const entry of this.#entries.values()) this.#write(entry);
  }

  /** Takes what a delivery thread asks and tells. @returns the slots it asked for. */
  take(thread: number, { ask, free }: LimitNews): SlotOf[] {
    for (const name of free) this.#entries.get(name)?.users.delete(thread);
    return ask.map((key) => {
      const entry = this.#entry(key);
      entry?.users.add(thread);
      return { key: limitKeyText(key), slot: entry?.slot.index ?? -1 };
    });
  }

  /**
   * Sets what `by` allows at the key, null: as much as the data.
   * @param isShared it is of all processes that share limits, as those of the data; else of this process.
   */
  cap(name: string, by: string, cap: Cap | null, isShared = false): void {
    const caps = this.#caps.get(name) ?? new Map<string, SetCap>();
    if (cap === null) caps.delete(by);
    else caps.set(by, { cap, isShared });
    if (caps.size > 0) this.#caps.set(name, caps);
    else this.#caps.delete(name);
    const entry = this.#entries.get(name);
    if (entry !== undefined) this.#write(entry);
  }

  /** Lets nothing through at the key before then, in steady time; 0: what `by` closed is open again. Others keep closed what they closed. */
  close(name: string, by: ClosedReason, untilMs: number): void {
    const closed = this.#closed.get(name) ?? new Map<ClosedReason, number>();
    const since = `${by} ${name}`;
    if (untilMs > 0) {
      if ((closed.get(by) ?? 0) <= this.#ports.now()) this.#closedSince.set(since, this.#ports.now());
      closed.set(by, untilMs);
    } else {
      this.#closedSince.delete(since);
      if (!closed.delete(by)) return;
    }
    if (closed.size > 0) this.#closed.set(name, closed);
    else this.#closed.delete(name);
    const entry = this.#entries.get(name);
    if (entry !== undefined) this.#shut(name, entry.slot, by);
  }

  /** @param changed whose closing changed; what a thread closed is left as it is if that is for longer. */
  #shut(name: string, slot: LimitSlot, changed: ClosedReason): void {
    let [reason, untilMs]: [ClosedReason, number] = ['', 0];
    for (const [by, atMs] of this.#closed.get(name) ?? []) if (atMs > untilMs) [reason, untilMs] = [by, atMs];
    const isTheirs = slot.closedBy !== changed && !this.#closed.get(name)?.has(slot.closedBy);
    if (!isTheirs || untilMs > slot.closedUntilMs) slot.close(untilMs, reason);
  }

  entry(name: string): Readonly<Pick<Entry, 'key' | 'slot'>> | null {
    return this.#entries.get(name) ?? null;
  }

  entries(): Iterable<[name: string, entry: Readonly<Pick<Entry, 'key' | 'slot'>>]> {
    return this.#entries;
  }

  standing(key: LimitKey): KeyStanding {
    const name = limitKeyText(key);
    const slot = this.#entries.get(name)?.slot ?? null;
    const closed = new Map(this.#closed.get(name));
    if (slot !== null && !closed.has(slot.closedBy)) closed.set(slot.closedBy, slot.closedUntilMs);
    return {
      data: this.#dataOf(key),
      caps: [...(this.#caps.get(name) ?? [])].map(([by, { cap, isShared }]) => [by, cap, isShared] as const),
      closed: [...closed].map(([by, untilMs]) => [by, untilMs, this.#closedSince.get(`${by} ${name}`) ?? 0]),
      slot,
      share: this.#ports.share(key),
    };
  }

  /** What holds at a key for all processes together: what the data say, and less where others said so for all. */
  limitsOf(key: LimitKey): Limits {
    const data = this.#dataOf(key);
    const shared = Object.entries(this.#least(limitKeyText(key), true));
    if (shared.length === 0) return data;
    const least: { [name: string]: unknown } = { ...data };
    for (const [name, value] of shared) {
      const before = data[name as keyof Cap] ?? 0;
      least[name] = before === 0 ? value : Math.min(before, value);
    }
    return least as Limits;
  }

  #dataOf(key: LimitKey): Limits {
    const at = this.#providers.get(key.provider) ?? this.#data;
    return key.source === null ? at.total : limitsOfSource(at, key.source);
  }

  /** What this process has of what holds for all; null: nothing goes by the key now. */
  shareOf(name: string): Share | null {
    const entry = this.#entries.get(name);
    return entry === undefined ? null : this.#ports.share(entry.key);
  }

  /** The share of the key changed. */
  rewrite(name: string): void {
    const entry = this.#entries.get(name);
    if (entry !== undefined) this.#write(entry);
  }

  /** The least of what others set, for this process or for all. */
  #least(name: string, ofAll: boolean): Cap {
    const least: { -readonly [K in keyof Cap]: number } = {};
    for (const { cap, isShared } of this.#caps.get(name)?.values() ?? [])
      if (isShared === ofAll)
        for (const [limit, value] of Object.entries(cap) as [keyof Cap, number][])
          if (least[limit] === undefined || value < (least[limit] ?? 0)) least[limit] = value;
    return least;
  }

  /**
   * How many messages may go to the site within the next second, from all sources, and when the next one may where none
   * may.
   */
  outlook(site: string): { messages: number; atMs: number } {
    const entries = this.#bySite.get(site);
    if (entries === undefined) return UNLIMITED;
    const nowMs = this.#ports.now();
    let messages = 0;
    let most = Number.POSITIVE_INFINITY;
    let atMs = Number.POSITIVE_INFINITY;
    let totalAtMs = 0;
    for (const { key, slot } of entries) {
      const one = slot.outlook(nowMs, AHEAD_MS);
      if (key.source === null) {
        most = one.messages;
        totalAtMs = one.atMs;
      } else {
        messages += one.messages;
        atMs = Math.min(atMs, one.atMs);
      }
    }
    if (atMs === Number.POSITIVE_INFINITY || this.#hasOther(entries)) messages = Number.POSITIVE_INFINITY;
    return {
      messages: Math.min(messages, most),
      atMs: Math.max(atMs === Number.POSITIVE_INFINITY ? 0 : atMs, totalAtMs),
    };
  }

  /** Whether mail may leave by a source that has not sent anything there yet, and so has no limits there. */
  #hasOther(entries: readonly Entry[]): boolean {
    const { others } = this.#ports;
    if (others === undefined) return false;
    const isNew = (name: string): boolean => !entries.some(({ key }) => key.source === name);
    return entries.some(({ key }) => key.source !== null && others(key).some(isNew));
  }

  /** Gives away slots that nobody uses and that count nothing any more. */
  sweep(): void {
    const nowMs = this.#ports.now();
    for (const [name, { key, slot, users }] of this.#entries) {
      if (users.size > 0 || slot.open > 0 || slot.closedUntilMs > nowMs) continue;
      if (RATE_NAMES.some((rate) => slot.getNextUs(rate) > nowMs * 1000)) continue;
      this.#ports.ends?.(key, slot);
      this.#entries.delete(name);
      this.#free.push(slot.index);
      const others = this.#bySite.get(key.site)?.filter((entry) => entry.slot !== slot) ?? [];
      if (others.length === 0) this.#bySite.delete(key.site);
      else this.#bySite.set(key.site, others);
    }
  }

  /** Counts that have not run down, by key; in microseconds of steady time. */
  counts(names: readonly RateName[]): Map<string, Counts> {
    const nowUs = this.#ports.now() * 1000;
    const all = new Map(this.#restored);
    for (const [name, { slot }] of this.#entries) {
      const counts: Counts = {};
      for (const rate of names) {
        const nextUs = slot.getNextUs(rate);
        if (nextUs > nowUs) counts[rate] = nextUs;
      }
      if (Object.keys(counts).length > 0) all.set(name, counts);
      else all.delete(name);
    }
    return all;
  }

  /** Takes the counts of an earlier life. */
  restore(counts: ReadonlyMap<string, Counts>): void {
    for (const [name, one] of counts) this.#restored.set(name, one);
  }

  #entry(key: LimitKey): Entry | null {
    const name = limitKeyText(key);
    const known = this.#entries.get(name);
    if (known !== undefined) return known;
    const index = this.#free.pop() ?? (this.#next < SLOTS ? this.#next++ : -1);
    if (index === -1) {
      this.#ports.full();
      return null;
    }
    const slot = new LimitSlot(this.#ports.table, index);
    slot.clear();
    const entry: Entry = { key, slot, users: new Set() };
    this.#entries.set(name, entry);
    const others = this.#bySite.get(key.site);
    if (others === undefined) this.#bySite.set(key.site, [entry]);
    else others.push(entry);
    for (const [rate, nextUs] of Object.entries(this.#restored.get(name) ?? {}))
      slot.setNextUs(rate as RateName, nextUs);
    this.#restored.delete(name);
    this.#write(entry);
    for (const by of this.#closed.get(name)?.keys() ?? []) this.#shut(name, slot, by);
    this.#ports.begins?.(key, slot);
    return entry;
  }

  #write({ key, slot }: Entry): void {
    const name = limitKeyText(key);
    slot.write(
      slotLimits(this.limitsOf(key), this.#least(name, false), this.#ports.share(key)),
      this.#ports.now(),
    );
  }
}

const UNLIMITED = { messages: Number.POSITIVE_INFINITY, atMs: 0 };
