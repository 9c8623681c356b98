/**
 * The limits that hold now, and how much of them is used, in memory shared by the threads of a process: a slot for each
 * limit key. Threads take and give back without a lock and without asking anybody; the main thread writes the limits.
 * A slot answers at once: 0 is granted, anything else is the steady time at which to come again.
 */
import { NO_PACE, type Pace, RATE_NAMES, type RateName } from './rate.ts';

export const SLOTS = 16_384;

/** 32-bit words of a slot. */
const OPEN = 0;
const WAITING = 1;
const MAX_CONNECTIONS = 2;
const MESSAGES_PER_CONNECTION = 3;
const FAILURES = 4;
const CLOSED_BY = 5;
const SENT = 6;
const REFUSED = 7;
const LEAVING = 8;
const SHARED = 9;
const SERVING = 10;
const OPENED = 11;
/** Even: 64-bit words follow. */
const INTS = 12;
/** 64-bit words. */
const CLOSED_UNTIL = INTS / 2;
const PACES = CLOSED_UNTIL + 1;
const NEXT = PACES + 2 * RATE_NAMES.length;
/** Since when each rate, and then the connections, are used up: of use as long as they are. */
const FULL_SINCE = NEXT + RATE_NAMES.length;
const FULL_CONNECTIONS = FULL_SINCE + RATE_NAMES.length;
const SLOT_WORDS = FULL_CONNECTIONS + 2;
const SLOT_BYTES = 8 * SLOT_WORDS;

const NO_LIMIT = 0x7fffffff;
/** The place of the bucket of connections, after those of messages. */
const CONNECTIONS = RATE_NAMES.indexOf('connections_per_min');
const MESSAGE_RATES = CONNECTIONS;

/** A share of a rate may grow: it is asked again this soon, however long the share of now makes wait. */
const SHARED_LOOK_MS = 5000;

/** To come again when a connection is given back. */
export const WHEN_FREED = Number.POSITIVE_INFINITY;

/** Why a slot is closed. */
export const CLOSED_REASONS = [
  '',
  'connect_failures',
  'adaptive',
  'operator',
  'source',
  'warmup',
  'netblock',
] as const;
export type ClosedReason = (typeof CLOSED_REASONS)[number];

/** As `maxConnections`. */
export const NO_CONNECTION = -1;

/** What said no. */
export type LimitName = RateName | 'max_connections' | 'closed';

/** What the main thread writes. */
export interface SlotLimits {
  /** 0: no limit; NO_CONNECTION: none may be opened. */
  maxConnections: number;
  messagesPerConnection: number;
  /** The limits are a share that may change soon. */
  isShare: boolean;
  paces: Readonly<Record<RateName, Pace>>;
}

export const createLimitTable = (slots = SLOTS): SharedArrayBuffer =>
  new SharedArrayBuffer(slots * SLOT_BYTES);

export class LimitSlot {
  readonly index: number;
  /** What the last refusal was about. */
  refusedBy: LimitName = 'max_connections';
  readonly #ints: Int32Array;
  readonly #reals: Float64Array;
  readonly #longs: BigInt64Array;

  constructor(table: SharedArrayBuffer, index: number) {
    this.index = index;
    this.#ints = new Int32Array(table, index * SLOT_BYTES, INTS);
    this.#reals = new Float64Array(table, index * SLOT_BYTES, SLOT_WORDS);
    this.#longs = new BigInt64Array(table, index * SLOT_BYTES, SLOT_WORDS);
  }

  /** Begins a new life of the slot. */
  clear(): void {
    this.#longs.fill(0n);
    this.write({
      maxConnections: 0,
      messagesPerConnection: NO_LIMIT,
      isShare: false,
      paces: {
        messages_per_s: NO_PACE,
        messages_per_h: NO_PACE,
        messages_per_day: NO_PACE,
        connections_per_min: NO_PACE,
      },
    });
  }

  write({ maxConnections, messagesPerConnection, isShare, paces }: SlotLimits, nowMs = 0): void {
    const most = maxConnections === 0 ? NO_LIMIT : Math.max(0, maxConnections);
    if (Atomics.exchange(this.#ints, MAX_CONNECTIONS, most) !== most)
      this.#reals[FULL_CONNECTIONS] = this.open >= most ? nowMs : 0;
    Atomics.store(this.#ints, SHARED, isShare ? 1 : 0);
    Atomics.store(this.#ints, MESSAGES_PER_CONNECTION, messagesPerConnection);
    // A thread may read the one before the other is written: then a single event comes early or late.
    for (const [i, name] of RATE_NAMES.entries()) {
      if (isShare) this.#keepCredit(i, paces[name], nowMs * 1000);
      this.#reals[PACES + 2 * i] = paces[name].stepUs;
      this.#reals[PACES + 2 * i + 1] = paces[name].slackUs;
    }
  }

  get maxConnections(): number {
    return Atomics.load(this.#ints, MAX_CONNECTIONS);
  }

  get messagesPerConnection(): number {
    return Atomics.load(this.#ints, MESSAGES_PER_CONNECTION);
  }

  get open(): number {
    return Atomics.load(this.#ints, OPEN);
  }

  /** Connections opened since the slot began. */
  get opened(): number {
    return Atomics.load(this.#ints, OPENED) >>> 0;
  }

  /** Connections over which mail goes, or may. */
  get serving(): number {
    return Atomics.load(this.#ints, SERVING);
  }

  serves(by: 1 | -1): void {
    Atomics.add(this.#ints, SERVING, by);
  }

  /** Number of destinations, over all threads, that wait for a connection of this slot. */
  get waiting(): number {
    return Atomics.load(this.#ints, WAITING);
  }

  waits(by: 1 | -1): void {
    Atomics.add(this.#ints, WAITING, by);
  }

  /** Messages taken, and questions refused, since the slot began; both wrap around. */
  get counts(): { sent: number; refused: number } {
    return { sent: Atomics.load(this.#ints, SENT), refused: Atomics.load(this.#ints, REFUSED) };
  }

  get closedUntilMs(): number {
    return this.#reals[CLOSED_UNTIL] as number;
  }

  get closedBy(): ClosedReason {
    return CLOSED_REASONS[Atomics.load(this.#ints, CLOSED_BY)] ?? '';
  }

  /** Lets nothing through until then. */
  close(untilMs: number, reason: ClosedReason): void {
    Atomics.store(this.#ints, CLOSED_BY, CLOSED_REASONS.indexOf(reason));
    this.#reals[CLOSED_UNTIL] = untilMs;
  }

  takeConnection(nowMs: number): number {
    const closedUntilMs = this.#closed(nowMs);
    if (closedUntilMs !== 0) return closedUntilMs;
    const most = this.maxConnections;
    const open = Atomics.add(this.#ints, OPEN, 1);
    if (open >= most) {
      Atomics.sub(this.#ints, OPEN, 1);
      return this.#refuse('max_connections', WHEN_FREED);
    }
    if (open === most - 1) this.#reals[FULL_CONNECTIONS] = nowMs;
    const atMs = this.#take(CONNECTIONS, nowMs);
    Atomics.add(this.#ints, atMs === 0 ? OPENED : OPEN, atMs === 0 ? 1 : -1);
    return atMs;
  }

  freeConnection(): void {
    Atomics.sub(this.#ints, OPEN, 1);
    const leaving = Atomics.load(this.#ints, LEAVING);
    if (leaving > 0) Atomics.compareExchange(this.#ints, LEAVING, leaving, leaving - 1);
  }

  /** Whether one connection more than is allowed is open; then whoever asks closes one. */
  leaves(): boolean {
    for (;;) {
      const leaving = Atomics.load(this.#ints, LEAVING);
      if (this.open - leaving <= this.maxConnections) return false;
      if (Atomics.compareExchange(this.#ints, LEAVING, leaving, leaving + 1) === leaving) return true;
    }
  }

  /** Whether so much of a rate is used that more of it would be of use. */
  presses(nowMs: number): boolean {
    for (let i = 0; i < RATE_NAMES.length; i++) {
      const slackUs = this.#reals[PACES + 2 * i + 1] as number;
      if (this.#reals[PACES + 2 * i] !== 0 && this.#nextUs(i, nowMs) - nowMs * 1000 > slackUs / 2)
        return true;
    }
    return false;
  }

  /** What may go at once of the rates is used up: a share begins so, because others may just have used theirs. */
  beginEmpty(nowMs: number): void {
    for (let i = 0; i < RATE_NAMES.length; i++) {
      const fullUs = Math.ceil(nowMs * 1000 + (this.#reals[PACES + 2 * i + 1] as number));
      if (this.#reals[PACES + 2 * i] === 0 || this.#nextUs(i, nowMs) >= fullUs) continue;
      Atomics.store(this.#longs, NEXT + i, BigInt(fullUs));
      this.#reals[FULL_SINCE + i] = nowMs;
    }
  }

  takeMessage(nowMs: number): number {
    const closedUntilMs = this.#closed(nowMs);
    if (closedUntilMs !== 0) return closedUntilMs;
    for (let i = 0; i < MESSAGE_RATES; i++) {
      const atMs = this.#take(i, nowMs);
      if (atMs === 0) continue;
      for (let taken = 0; taken < i; taken++) this.#giveBack(taken);
      return atMs;
    }
    Atomics.add(this.#ints, SENT, 1);
    return 0;
  }

  /** The message did not go. */
  giveBackMessage(): void {
    for (let i = 0; i < MESSAGE_RATES; i++) this.#giveBack(i);
    Atomics.sub(this.#ints, SENT, 1);
  }

  /** How many messages may go until `aheadMs` from now, and when the next one may where none may. */
  outlook(nowMs: number, aheadMs: number): { messages: number; atMs: number } {
    const closedUntilMs = this.closedUntilMs;
    if (closedUntilMs > nowMs) return { messages: 0, atMs: closedUntilMs };
    let messages = Number.POSITIVE_INFINITY;
    let atMs = 0;
    for (let i = 0; i < MESSAGE_RATES; i++) {
      const stepUs = this.#reals[PACES + 2 * i] as number;
      if (stepUs === 0) continue;
      const slackUs = this.#reals[PACES + 2 * i + 1] as number;
      const earlyUs = (nowMs + aheadMs) * 1000 + slackUs - this.#nextUs(i, nowMs);
      messages = Math.min(messages, earlyUs < 0 ? 0 : Math.floor(earlyUs / stepUs) + 1);
      if (earlyUs < 0) atMs = Math.max(atMs, this.#soon(nowMs, nowMs + aheadMs + Math.ceil(-earlyUs / 1000)));
    }
    return { messages, atMs };
  }

  /** A connection could not be opened. @returns how many failed in a row, over all threads. */
  connectFailed(): number {
    return Atomics.add(this.#ints, FAILURES, 1) + 1;
  }

  served(): void {
    if (Atomics.load(this.#ints, FAILURES) !== 0) Atomics.store(this.#ints, FAILURES, 0);
  }

  /** When the count of a rate is empty again, in microseconds of steady time; to be kept over a restart. */
  getNextUs(name: RateName): number {
    return Number(Atomics.load(this.#longs, NEXT + RATE_NAMES.indexOf(name)));
  }

  /**
   * How much of a rate has not run down, and from when until when it lets nothing through, in steady time; 0: it does, or it is
   * not known since when.
   */
  usage(name: RateName, nowMs: number): { used: number; sinceMs: number; untilMs: number } {
    const i = RATE_NAMES.indexOf(name);
    const [stepUs, slackUs] = [
      this.#reals[PACES + 2 * i] as number,
      this.#reals[PACES + 2 * i + 1] as number,
    ];
    if (stepUs === 0) return { used: 0, sinceMs: 0, untilMs: 0 };
    const nextUs = this.#nextUs(i, nowMs);
    const isUsedUp = nextUs - nowMs * 1000 > slackUs;
    return {
      used: Math.ceil((nextUs - nowMs * 1000) / stepUs),
      sinceMs: isUsedUp ? (this.#reals[FULL_SINCE + i] as number) : 0,
      untilMs: isUsedUp ? Math.max(nowMs + 1, Math.ceil((nextUs - slackUs) / 1000)) : 0,
    };
  }

  /** Since when as many connections are open as may be, in steady time; 0: not known. */
  get fullSinceMs(): number {
    return this.#reals[FULL_CONNECTIONS] as number;
  }

  setNextUs(name: RateName, atUs: number): void {
    const i = RATE_NAMES.indexOf(name);
    Atomics.store(this.#longs, NEXT + i, BigInt(Math.round(atUs)));
    this.#reals[FULL_SINCE + i] = 0;
  }

  #closed(nowMs: number): number {
    const untilMs = this.closedUntilMs;
    return untilMs > nowMs ? this.#refuse('closed', untilMs) : 0;
  }

  #refuse(by: LimitName, atMs: number): number {
    this.refusedBy = by;
    Atomics.add(this.#ints, REFUSED, 1);
    return atMs;
  }

  #soon(nowMs: number, atMs: number): number {
    return Atomics.load(this.#ints, SHARED) === 0 ? atMs : Math.min(atMs, nowMs + SHARED_LOOK_MS);
  }

  /**
   * Another pace: as many messages may go at once as before, and no more than by the new one. Were it as much time as before,
   * a share that moves from one process to another would bring new bursts each time.
   */
  #keepCredit(rate: number, { stepUs, slackUs }: Pace, nowUs: number): void {
    const wasStepUs = this.#reals[PACES + 2 * rate] as number;
    const wasSlackUs = this.#reals[PACES + 2 * rate + 1] as number;
    if (wasStepUs === 0 || stepUs === 0 || (wasStepUs === stepUs && wasSlackUs === slackUs)) return;
    for (;;) {
      const was = Atomics.load(this.#longs, NEXT + rate);
      const credit = (wasSlackUs - Math.max(0, Number(was) - nowUs)) / wasStepUs;
      const will = BigInt(Math.ceil(nowUs + Math.max(0, slackUs - credit * stepUs)));
      if (Atomics.compareExchange(this.#longs, NEXT + rate, was, will) === was) return;
    }
  }

  #nextUs(rate: number, nowMs: number): number {
    return Math.max(Number(Atomics.load(this.#longs, NEXT + rate)), nowMs * 1000);
  }

  #take(rate: number, nowMs: number): number {
    const stepUs = this.#reals[PACES + 2 * rate] as number;
    if (stepUs === 0) return 0;
    const slackUs = this.#reals[PACES + 2 * rate + 1] as number;
    const nowUs = nowMs * 1000;
    for (;;) {
      const was = Atomics.load(this.#longs, NEXT + rate);
      const nextUs = Math.max(Number(was), nowUs);
      if (nextUs - nowUs > slackUs) {
        const atMs = Math.max(nowMs + 1, Math.ceil((nextUs - slackUs) / 1000));
        return this.#refuse(RATE_NAMES[rate] as RateName, this.#soon(nowMs, atMs));
      }
      const will = BigInt(Math.ceil(nextUs + stepUs));
      if (Atomics.compareExchange(this.#longs, NEXT + rate, was, will) !== was) continue;
      if (nextUs + stepUs - nowUs > slackUs) this.#reals[FULL_SINCE + rate] = nowMs;
      return 0;
    }
  }

  #giveBack(rate: number): void {
    const stepUs = this.#reals[PACES + 2 * rate] as number;
    if (stepUs !== 0) Atomics.sub(this.#longs, NEXT + rate, BigInt(Math.floor(stepUs)));
  }
}
