/**
 * What peers do not say of their limits, learned of how connections end: so many messages over one connection, so many
 * connections at once. A limit holds for a day from the sign that set it. Told of signs and of the time; has no timer, and a site
 * whose connections end as we end them is not known here. Pure. Bounded: beyond MAX_KEYS the signs that are oldest are forgotten,
 * and the limits that end first.
 */
import { mostRecent } from '../../base/most-recent.ts';
import { type LimitSign, limitKeyText } from '../limit-key.ts';

export type LearnedName = 'messages_per_connection' | 'max_connections';

export type LearnedCause =
  /** The peer said so. */
  | 'per_connection_limit'
  /** It closed the connection after as many messages in three sessions. */
  | 'closed'
  /** It took no further connection, three times, and said that there are too many, or only that it does not. */
  | 'connection_limit'
  | 'refused';

/** A limit as it is kept over a restart; times are times of day. */
export interface LearnedLimit {
  site: string;
  /** '' for the default one. */
  source: string;
  limit: LearnedName;
  value: number;
  since_ms: number;
  until_ms: number;
  cause: LearnedCause;
  /** The peer's last word; '' where it said nothing. */
  reply: string;
}

export interface LearnedChange {
  site: string;
  source: string;
  limit: LearnedName;
  /** null: none. */
  before: number | null;
  now: LearnedLimit | null;
}

export interface LearnedLimitsPorts {
  /** What the data allow; 0 or undefined: as much as one likes. */
  ceiling(key: LimitSign['key'], limit: LearnedName): number | undefined;
  /** A limit is learned, or over. */
  changed(change: LearnedChange): void;
}

export const LEARNED_FOR_MS = 86_400_000;
/** So many sessions must have ended alike. */
const SESSIONS = 3;
const MAX_KEYS = 10_000;
/** Of a site and source: different numbers of messages after which connections were closed. */
const MAX_COUNTS = 8;

/** Signs of one limit that are no limit yet. */
interface Watch {
  /** Of messages: how many sessions ended after so many. */
  counts: Map<number, number>;
  /** Of connections: how often one was refused, and the most that were served then. */
  rounds: number;
  most: number;
  /** Refusals of connections begun before are of the same time. */
  roundMs: number;
}

export class LearnedLimits {
  readonly #ports: LearnedLimitsPorts;
  readonly #watches = mostRecent<Watch>(MAX_KEYS);
  /** By key and limit; the one that ends first comes first. */
  readonly #learned = new Map<string, LearnedLimit>();

  constructor(ports: LearnedLimitsPorts) {
    this.#ports = ports;
  }

  get size(): number {
    return this.#learned.size;
  }

  /** @param nowMs the time of day. @param steadyMs the clock of `begunMs`. */
  saw(sign: LimitSign, nowMs: number, steadyMs: number): void {
    if (sign.of === 'messages') this.#usedUp(sign, nowMs);
    else this.#refused(sign, nowMs, steadyMs);
  }

  #usedUp(sign: LimitSign, nowMs: number): void {
    const { key, count, isSaid, reply } = sign;
    // One message, and no more, is what a connection is opened for.
    const value = Math.max(1, count - 1);
    if (!this.#lowers(key, 'messages_per_connection', value)) return;
    const name = nameOf(key, 'messages_per_connection');
    const { counts } = this.#watch(name);
    const sessions = (counts.get(count) ?? 0) + 1;
    counts.delete(count);
    counts.set(count, sessions);
    if (counts.size > MAX_COUNTS) counts.delete(counts.keys().next().value as number);
    if (!isSaid && sessions < SESSIONS) return;
    this.#learn(
      key,
      'messages_per_connection',
      value,
      isSaid ? 'per_connection_limit' : 'closed',
      reply,
      nowMs,
    );
  }

  #refused({ key, count, isSaid, reply, begunMs }: LimitSign, nowMs: number, steadyMs: number): void {
    if (!this.#lowers(key, 'max_connections', count)) return;
    const watch = this.#watch(nameOf(key, 'max_connections'));
    watch.most = Math.max(watch.most, count);
    if (begunMs < watch.roundMs) return;
    watch.roundMs = steadyMs;
    if (++watch.rounds < SESSIONS) return;
    const { most } = watch;
    if (this.#lowers(key, 'max_connections', most))
      this.#learn(key, 'max_connections', most, isSaid ? 'connection_limit' : 'refused', reply, nowMs);
  }

  #watch(name: string): Watch {
    let watch = this.#watches.get(name);
    if (watch === undefined) {
      watch = { counts: new Map(), rounds: 0, most: 0, roundMs: Number.NEGATIVE_INFINITY };
      // What was seen a day ago counts no more.
      this.#watches.set(name, watch, { ttl: LEARNED_FOR_MS });
    }
    return watch;
  }

  /** Whether it is less than what holds. */
  #lowers(key: LimitSign['key'], limit: LearnedName, value: number): boolean {
    const known = this.#learned.get(nameOf(key, limit))?.value ?? Number.POSITIVE_INFINITY;
    const ceiling = this.#ports.ceiling(key, limit) || Number.POSITIVE_INFINITY;
    return value < Math.min(known, ceiling);
  }

  #learn(
    key: LimitSign['key'],
    limit: LearnedName,
    value: number,
    cause: LearnedCause,
    reply: string,
    nowMs: number,
  ): void {
    const { site, source } = key;
    const name = nameOf(key, limit);
    this.#watches.delete(name);
    const before = this.#learned.get(name)?.value ?? null;
    const learned: LearnedLimit = {
      site,
      source: source ?? '',
      limit,
      value,
      since_ms: nowMs,
      until_ms: nowMs + LEARNED_FOR_MS,
      cause,
      reply,
    };
    this.#put(name, learned);
    this.#ports.changed({ site, source: learned.source, limit, before, now: learned });
  }

  #put(name: string, learned: LearnedLimit): void {
    this.#learned.delete(name);
    if (this.#learned.size >= MAX_KEYS) {
      const [first] = this.#learned;
      if (first !== undefined) this.#end(...first);
    }
    this.#learned.set(name, learned);
  }

  #end(name: string, { site, source, limit, value }: LearnedLimit): void {
    this.#learned.delete(name);
    this.#ports.changed({ site, source, limit, before: value, now: null });
  }

  /** Ends limits whose day is over. */
  tick(nowMs: number): void {
    for (const [name, learned] of this.#learned) {
      if (learned.until_ms > nowMs) return;
      this.#end(name, learned);
    }
  }

  /** What holds for a source at a site. */
  of(site: string, source: string, limit: LearnedName): LearnedLimit | null {
    return this.#learned.get(nameOf({ site, source, provider: '' }, limit)) ?? null;
  }

  all(): Iterable<LearnedLimit> {
    return this.#learned.values();
  }

  /** Forgets all of it. */
  clear(): void {
    this.#watches.clear();
    for (const [name, learned] of this.#learned) this.#end(name, learned);
  }

  /** Takes what an earlier life learned, as far as its day is not over. */
  restore(records: Iterable<LearnedLimit>, nowMs: number): void {
    const kept = [...records].filter(({ until_ms }) => until_ms > nowMs).slice(0, MAX_KEYS);
    for (const record of kept.sort((a, b) => a.until_ms - b.until_ms)) {
      // A clock that was set back makes no day longer.
      const learned = { ...record, until_ms: Math.min(record.until_ms, nowMs + LEARNED_FOR_MS) };
      const { site, source, limit } = learned;
      this.#put(nameOf({ site, source, provider: '' }, limit), learned);
    }
  }
}

const nameOf = (key: LimitSign['key'], limit: LearnedName): string => `${limit} ${limitKeyText(key)}`;
