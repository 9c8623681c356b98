/**
 * Addresses and networks that are banned, in memory shared by all threads and processes of a host. While a slot is
 * written its state says so, and readers pass it over: nothing is locked, and a process that dies while it writes costs
 * one slot. Every change raises `version`, by which the keeper knows that there is something to save.
 */
import { formatNetwork, type Ip, masked, type Network } from '../base/ip.ts';

/** Why an address is banned; 'operator': by hand. Stored as an index: only append. */
export const BAN_KINDS = ['operator', 'auth', 'protocol', 'unknown_user'] as const;
export type BanKind = (typeof BAN_KINDS)[number];
export type FailureKind = Exclude<BanKind, 'operator'>;

export interface Ban {
  /** `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/64`. */
  network: string;
  kind: BanKind;
  sinceMs: number;
  /** FOREVER_MS: no end. */
  untilMs: number;
  /** How often it was banned lately, this time included. */
  times: number;
}

/** The same ban by another clock, which is `byMs` ahead; in whole milliseconds, as other nodes read it. */
export function shifted<T extends Pick<Ban, 'sinceMs' | 'untilMs'>>(ban: T, byMs: number): T {
  const { sinceMs, untilMs } = ban;
  const until =
    untilMs >= FOREVER_MS ? FOREVER_MS : Math.min(FOREVER_MS, Math.max(0, Math.round(untilMs + byMs)));
  return { ...ban, sinceMs: Math.max(0, Math.round(sinceMs + byMs)), untilMs: until };
}

/** The field of the log; a ban that ends when it is deleted has none. */
export const endOf = ({ untilMs }: Pick<Ban, 'untilMs'>): { ends_at?: string } =>
  untilMs >= FOREVER_MS ? {} : { ends_at: new Date(untilMs).toISOString() };

const SLOT_WORDS = 12;
const AT = { state: 0, ip: 1, bits: 5, untilS: 6, sinceS: 7, times: 8, kind: 9 } as const;
const STATE = { empty: 0, writing: 1, live: 2 } as const;
/** An entry lies in one of so many slots, counted from its place. */
const PROBES = 16;
const HEADER_WORDS = 16;
const VERSION = 0;
/** Which prefix lengths are in use, 0 to 128: only these are looked up. */
const LENGTHS = 1;
const FOREVER_S = 0xffffffff;
export const FOREVER_MS = FOREVER_S * 1000;

export const banTableBytes = (entries: number): number => (HEADER_WORDS + slotsFor(entries) * SLOT_WORDS) * 4;

/** Twice as many as entries, so that probing seldom meets a full stretch. */
function slotsFor(entries: number): number {
  let slots = PROBES;
  while (slots < entries * 2) slots *= 2;
  return slots;
}

export class BanTable {
  readonly #words: Uint32Array;
  readonly #header: Uint32Array;
  readonly #mask: number;

  constructor(memory: ArrayBufferLike, offset: number, entries: number) {
    const slots = slotsFor(entries);
    this.#mask = slots - 1;
    this.#header = new Uint32Array(memory, offset, HEADER_WORDS);
    this.#words = new Uint32Array(memory, offset + HEADER_WORDS * 4, slots * SLOT_WORDS);
  }

  get version(): number {
    return Atomics.load(this.#header, VERSION);
  }

  /** The ban that holds for an address now, or null. */
  find(ip: Ip, nowMs: number): Ban | null {
    if (this.version === 0) return null; // nobody was ever banned
    for (let word = 0; word < 5; word++) {
      let lengths = Atomics.load(this.#header, LENGTHS + word);
      while (lengths !== 0) {
        const bit = 31 - Math.clz32(lengths);
        lengths = (lengths & ~(1 << bit)) >>> 0;
        const bits = word * 32 + bit;
        const slot = this.#slotOf(masked(ip, bits), bits);
        if (slot >= 0 && this.#untilMs(slot) > nowMs) return this.#read(slot);
      }
    }
    return null;
  }

  /** The entry of exactly this network, over or not. */
  get({ ip, bits }: Network): Ban | null {
    const slot = this.#slotOf(ip, bits);
    return slot < 0 ? null : this.#read(slot);
  }

  /** Adds or replaces. When there is no room, the entry that ends first is overwritten. */
  put({ ip, bits }: Network, ban: Omit<Ban, 'network'>): void {
    const slot = this.#claim(ip, bits);
    const words = this.#words;
    for (let i = 0; i < 4; i++) words[slot + AT.ip + i] = ip[i] as number;
    words[slot + AT.bits] = bits;
    words[slot + AT.untilS] = Math.min(FOREVER_S, Math.ceil(ban.untilMs / 1000));
    words[slot + AT.sinceS] = Math.floor(ban.sinceMs / 1000);
    words[slot + AT.times] = ban.times;
    words[slot + AT.kind] = BAN_KINDS.indexOf(ban.kind);
    Atomics.or(this.#header, LENGTHS + (bits >>> 5), 1 << (bits & 31));
    Atomics.store(words, slot + AT.state, STATE.live);
    this.#changed();
  }

  /** Forgets a network; false when it was not there. */
  remove({ ip, bits }: Network): boolean {
    let found = false;
    for (let slot = this.#slotOf(ip, bits); slot >= 0; slot = this.#slotOf(ip, bits)) {
      Atomics.store(this.#words, slot + AT.state, STATE.empty);
      found = true;
    }
    if (found) this.#changed();
    return found;
  }

  /** Entries whose end is later than that. */
  list(afterMs: number): Ban[] {
    const bans = new Map<string, Ban>();
    for (let slot = 0; slot < this.#words.length; slot += SLOT_WORDS) {
      if (Atomics.load(this.#words, slot + AT.state) !== STATE.live || this.#untilMs(slot) <= afterMs)
        continue;
      const ban = this.#read(slot);
      const other = bans.get(ban.network);
      if (other === undefined || other.untilMs < ban.untilMs) bans.set(ban.network, ban);
    }
    return [...bans.values()].sort((a, b) => a.sinceMs - b.sinceMs);
  }

  #changed(): void {
    if (Atomics.add(this.#header, VERSION, 1) === 0xffffffff) Atomics.add(this.#header, VERSION, 1);
  }

  #slotOf(ip: Ip, bits: number): number {
    const place = placeOf(ip, bits);
    const words = this.#words;
    for (let i = 0; i < PROBES; i++) {
      const slot = ((place + i) & this.#mask) * SLOT_WORDS;
      if (Atomics.load(words, slot + AT.state) === STATE.live && this.#is(slot, ip, bits)) return slot;
    }
    return -1;
  }

  #is(slot: number, ip: Ip, bits: number): boolean {
    const words = this.#words;
    return (
      words[slot + AT.bits] === bits &&
      words[slot + AT.ip + 3] === ip[3] &&
      words[slot + AT.ip + 2] === ip[2] &&
      words[slot + AT.ip + 1] === ip[1] &&
      words[slot + AT.ip] === ip[0]
    );
  }

  #claim(ip: Ip, bits: number): number {
    const words = this.#words;
    for (;;) {
      const own = this.#slotOf(ip, bits);
      if (own >= 0 && this.#take(own, STATE.live)) return own;
      const place = placeOf(ip, bits);
      let first = -1;
      for (let i = 0; i < PROBES; i++) {
        const slot = ((place + i) & this.#mask) * SLOT_WORDS;
        const state = Atomics.load(words, slot + AT.state);
        if (state === STATE.empty && this.#take(slot, STATE.empty)) return slot;
        if (state !== STATE.live) continue;
        if (first < 0 || (words[slot + AT.untilS] as number) < (words[first + AT.untilS] as number))
          first = slot;
      }
      // All of them are being written, so by processes that died: the first is taken over.
      if (first < 0) return (place & this.#mask) * SLOT_WORDS;
      if (this.#take(first, STATE.live)) return first;
    }
  }

  #take(slot: number, state: number): boolean {
    return Atomics.compareExchange(this.#words, slot + AT.state, state, STATE.writing) === state;
  }

  #untilMs(slot: number): number {
    return (this.#words[slot + AT.untilS] as number) * 1000;
  }

  #read(slot: number): Ban {
    const words = this.#words;
    const word = (at: number): number => words[slot + at] as number;
    const ip: Ip = [word(AT.ip), word(AT.ip + 1), word(AT.ip + 2), word(AT.ip + 3)];
    return {
      network: formatNetwork({ ip, bits: word(AT.bits) }),
      kind: BAN_KINDS[word(AT.kind)] ?? 'operator',
      sinceMs: word(AT.sinceS) * 1000,
      untilMs: word(AT.untilS) * 1000,
      times: word(AT.times),
    };
  }
}

function placeOf(ip: Ip, bits: number): number {
  let hash = Math.imul(ip[0] ^ bits, 0x9e3779b1);
  hash = Math.imul(hash ^ ip[1] ^ (hash >>> 15), 0x85ebca6b);
  hash = Math.imul(hash ^ ip[2] ^ (hash >>> 13), 0xc2b2ae35);
  hash = Math.imul(hash ^ ip[3] ^ (hash >>> 16), 0x27d4eb2f);
  return (hash ^ (hash >>> 15)) >>> 0;
}
