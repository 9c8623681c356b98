/**
 * Learns the limits of all keys from what peers answer, and says each change once. It has no timer: it is told of answers and,
 * each second or so, the time. A key that was never refused anything costs a tally. Bounded: beyond `maxKeys` the key that was
 * used least lately is forgotten, with its limit.
 */
import { type MostRecent, mostRecent } from '../../base/most-recent.ts';
import { ConnectionControl } from './connection-control.ts';
import { keyOf, keyText, type LimitKey } from './keys.ts';
import type { KeyNews } from './news.ts';
import { type Phase, RateControl, type RateRecord } from './rate-control.ts';
import type { AdaptiveSettings } from './settings.ts';
import { Tally } from './tally.ts';

/** What a limit says now; Infinity: no limit. */
export interface LearnedLimit {
  phase: Phase;
  messagesPerS: number;
  /** One message per wait, until one is taken. */
  probing: boolean;
  closedUntilMs: number;
  connections: number;
}

export type ChangeCause =
  | 'rate_limit'
  | 'connection_limit'
  | 'reputation_block'
  | 'dnsbl_block'
  | 'probe_accepted'
  | 'growth'
  | 'forgotten';

export interface LimitChange {
  key: LimitKey;
  before: LearnedLimit;
  now: LearnedLimit;
  cause: ChangeCause;
  /** The refusal that caused it, or the last one before; '' when there was none since the start. */
  reply: string;
  /** Refusals since the change before. */
  refusals: number;
}

export interface ControllerPorts {
  /** A change worth telling. */
  changed(change: LimitChange): void;
  /** What is to hold from now on. Growth is told here only, until it is worth more. */
  limit(key: LimitKey, limit: LearnedLimit): void;
  /** Tells the processes that share what is learned. */
  news?(news: KeyNews): void;
  /** The time of day at a time that it is told; default: the same. */
  timeOfDay?(nowMs: number): number;
}

export type RateClass = 'rate_limit' | 'connection_limit' | 'reputation_block' | 'dnsbl_block';

export interface Refusal {
  class: RateClass;
  /** '421 4.7.28 text', at most some hundred characters. */
  reply: string;
  /** When the command was sent that it answers. */
  sentMs: number;
  /** Connections to the site from this source. */
  openConnections: number;
  /** Keys of sources whose mail it is part of, or all of: what they count, where this one has counted nothing yet. */
  within?: readonly LimitKey[];
}

/** Where a part in use is a rate in use, growth is told the others so often. */
const SHARED_EVERY_MS = 5000;
/** Growth is told when the rate is this many times what was told last. */
const TOLD_GROWTH = 1.5;
const NO_LIMIT: LearnedLimit = {
  phase: 'free',
  messagesPerS: Number.POSITIVE_INFINITY,
  probing: false,
  closedUntilMs: 0,
  connections: Number.POSITIVE_INFINITY,
};

interface Entry {
  key: LimitKey;
  accepted: Tally;
  rate: RateControl | null;
  connections: ConnectionControl | null;
  told: LearnedLimit;
  reply: string;
  refusals: number;
  /** When the others were told last. */
  sharedMs: number;
}

/** As it is kept over a restart; times are those of the wall clock. */
export interface LearnedRecord {
  key: string;
  rate: RateRecord | null;
  connections: number | null;
  reply: string;
}

export class AdaptiveController {
  readonly #settings: AdaptiveSettings;
  readonly #ports: ControllerPorts;
  readonly #entries: MostRecent<Entry>;
  /** Keys that have a limit, or look for one. */
  readonly #limited = new Map<string, Entry>();
  /** How many of them are no sources. */
  #narrow = 0;

  constructor(settings: AdaptiveSettings, ports: ControllerPorts) {
    this.#settings = settings;
    this.#ports = ports;
    this.#entries = mostRecent(settings.maxKeys, {
      dispose: (entry, text, reason) => {
        if (reason === 'evict' && this.#release(text, entry)) this.#tell(entry, 'forgotten', NO_LIMIT);
      },
    });
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Number of keys that have a limit. */
  get limited(): number {
    return this.#limited.size;
  }

  /**
   * Messages of this key that the peer answered, without a word about their number.
   * @param accepted those it took. @param sentMs when the last of these was sent.
   */
  answered(
    key: LimitKey,
    messages: number,
    accepted: number,
    sentMs: number,
    ceiling: number,
    nowMs: number,
  ): void {
    const text = keyText(key);
    // Keys that are wider or narrower than the source are counted from the first refusal on.
    const entry = key.scope === 'source' ? this.#entry(text, key, nowMs) : this.#entries.get(text);
    if (entry === undefined) return;
    if (entry.rate === null) {
      if (accepted > 0) entry.accepted.add(accepted, nowMs);
    } else if (entry.rate.answered(messages, accepted, sentMs, nowMs)) {
      this.#tell(entry, 'probe_accepted');
      this.#share(entry, nowMs);
    }
    if (accepted > 0 && entry.connections?.succeeded(ceiling, nowMs) === true) {
      this.#tell(entry, 'growth');
      this.#share(entry, nowMs);
    }
  }

  refused(key: LimitKey, refusal: Refusal, nowMs: number): void {
    const text = keyText(key);
    const entry = this.#entry(text, key, nowMs);
    entry.refusals++;
    entry.reply = refusal.reply;
    this.#keep(text, entry);
    if (!this.#apply(entry, refusal, nowMs)) return;
    this.#tell(entry, refusal.class);
    this.#share(entry, nowMs);
  }

  #apply(entry: Entry, refusal: Refusal, nowMs: number): boolean {
    const { class: kind, sentMs, openConnections, within } = refusal;
    if (kind === 'connection_limit') {
      entry.connections ??= new ConnectionControl();
      const { me } = this.#settings.sharing;
      return entry.connections.refused(sentMs, openConnections, nowMs, this.#timeOfDay(nowMs), me);
    }
    entry.rate ??= this.#control(entry, nowMs);
    const timeOfDayMs = this.#timeOfDay(nowMs);
    if (kind !== 'rate_limit') return entry.rate.blocked(sentMs, nowMs, timeOfDayMs);
    return entry.rate.refused(sentMs, nowMs, this.#acceptedOf(within ?? [], nowMs), timeOfDayMs);
  }

  #timeOfDay(nowMs: number): number {
    return this.#ports.timeOfDay?.(nowMs) ?? nowMs;
  }

  #share(entry: Entry, nowMs: number): void {
    const { news } = this.#ports;
    if (news === undefined) return;
    entry.sharedMs = nowMs;
    news(newsOf(entry, nowMs));
  }

  /** What another process found out. @param of what this one counts of the key. */
  hear(news: KeyNews, of: { within: readonly LimitKey[]; open: number }, nowMs: number): void {
    const key = keyOf(news.key);
    if (key === null || (news.rate === null && news.connections === null)) return;
    const entry = this.#entry(news.key, key, nowMs);
    const { rate, connections } = news;
    let isTold = false;
    if (rate !== null) {
      entry.rate ??= this.#control(entry, nowMs);
      isTold = entry.rate.hear(rate, nowMs, this.#acceptedOf(of.within, nowMs)) === 'told';
    }
    if (connections !== null) {
      entry.connections ??= new ConnectionControl();
      isTold =
        entry.connections.hear(connections, this.#settings.sharing.me, of.open, nowMs) === 'told' || isTold;
    }
    entry.reply = news.reply;
    entry.told = limitOf(entry);
    this.#keep(news.key, entry);
    this.#ports.limit(key, entry.told);
    if (isTold) this.#share(entry, nowMs);
  }

  /** A message of a key went out, maybe a probe: others are not to send one too. */
  sent(key: LimitKey, nowMs: number): void {
    const entry = this.#limited.get(keyText(key));
    if (entry?.rate?.asks(nowMs) === true) this.#share(entry, nowMs);
  }

  /** Others are not heard any more: what one of them was to probe, this one does. */
  alone(nowMs: number): void {
    for (const entry of this.#limited.values()) {
      entry.rate?.alone();
      this.#ports.limit(entry.key, limitOf(entry));
    }
    this.tick(nowMs);
  }

  /** Tells the others all there is. */
  shareAll(nowMs: number): void {
    for (const entry of this.#limited.values()) this.#share(entry, nowMs);
  }

  /** Messages per second, of all these keys; NaN: nothing is known of any. */
  #acceptedOf(keys: readonly LimitKey[], nowMs: number): number {
    const known = keys
      .map((key) => this.#entries.peek(keyText(key))?.accepted.perS(nowMs) ?? Number.NaN)
      .filter((perS) => !Number.isNaN(perS));
    return known.length === 0 ? Number.NaN : known.reduce((sum, perS) => sum + perS, 0);
  }

  /** Lets limits grow that are in use, and forgets those that hold nothing back any more. */
  tick(nowMs: number): void {
    for (const [text, entry] of this.#limited) {
      entry.rate?.tick(nowMs);
      const { isLeased } = this.#settings.sharing;
      if (isLeased && entry.rate?.phase === 'climbing' && nowMs - entry.sharedMs >= SHARED_EVERY_MS)
        this.#share(entry, nowMs);
      const now = limitOf(entry);
      if (grewMuch(entry.told, now)) this.#tell(entry, 'growth');
      else this.#ports.limit(entry.key, now);
      if ((entry.rate?.isFree ?? true) && now.connections === Number.POSITIVE_INFINITY)
        this.#release(text, entry);
    }
  }

  /** Whether any key is limited that is not a source. */
  get hasNarrow(): boolean {
    return this.#narrow > 0;
  }

  limitsConnections(key: LimitKey): boolean {
    return this.#limited.get(keyText(key))?.connections != null;
  }

  limitOf(key: LimitKey): LearnedLimit {
    const entry = this.#limited.get(keyText(key));
    return entry === undefined ? NO_LIMIT : limitOf(entry);
  }

  /** The refusal that a limit comes from, or the last one; '' where there was none. */
  replyOf(key: LimitKey): string {
    return this.#limited.get(keyText(key))?.reply ?? '';
  }

  *limits(): Generator<{ key: LimitKey; limit: LearnedLimit; reply: string }> {
    for (const entry of this.#limited.values())
      yield { key: entry.key, limit: limitOf(entry), reply: entry.reply };
  }

  /** Forgets what was learned of keys. @returns how many. */
  forget(meant: (key: LimitKey) => boolean): number {
    let forgotten = 0;
    for (const [text, entry] of this.#limited) {
      if (!meant(entry.key)) continue;
      this.#release(text, entry);
      this.#entries.delete(text);
      this.#tell(entry, 'forgotten', NO_LIMIT);
      forgotten++;
    }
    return forgotten;
  }

  /** @param aheadMs what the wall clock is ahead of the one that this is told. */
  *save(aheadMs: number): Generator<LearnedRecord> {
    for (const [key, { rate, connections, reply }] of this.#limited)
      yield {
        key,
        rate: rate?.save(aheadMs) ?? null,
        connections: connections === null || !Number.isFinite(connections.most) ? null : connections.most,
        reply,
      };
  }

  /** @param aheadMs as in save. */
  restore(records: Iterable<LearnedRecord>, aheadMs: number, nowMs: number): void {
    for (const { key: text, rate, connections, reply } of records) {
      const key = keyOf(text);
      if (key === null) continue;
      const entry = this.#entry(text, key, nowMs);
      entry.reply = reply;
      if (rate !== null) {
        entry.rate ??= this.#control(entry, nowMs);
        entry.rate.restore(rate, aheadMs, nowMs);
      }
      if (connections !== null) {
        entry.connections ??= new ConnectionControl();
        entry.connections.restore(connections, nowMs);
      }
      this.#keep(text, entry);
      entry.told = limitOf(entry);
      this.#ports.limit(key, entry.told);
    }
  }

  #entry(text: string, key: LimitKey, nowMs: number): Entry {
    const known = this.#entries.get(text);
    if (known !== undefined) return known;
    const accepted = new Tally();
    const entry: Entry = {
      key,
      accepted,
      rate: null,
      connections: null,
      told: NO_LIMIT,
      reply: '',
      refusals: 0,
      sharedMs: Number.NEGATIVE_INFINITY,
    };
    this.#entries.set(text, entry);
    const { startPerS, ceilingPerS } = this.#settings.bounds(key.site);
    if (key.scope === 'source' && Number.isFinite(Math.min(startPerS, ceilingPerS))) {
      entry.rate = this.#control(entry, nowMs);
      entry.told = limitOf(entry);
      this.#keep(text, entry);
      this.#ports.limit(key, entry.told);
    }
    return entry;
  }

  #keep(text: string, entry: Entry): void {
    if (!this.#limited.has(text) && entry.key.scope !== 'source') this.#narrow++;
    this.#limited.set(text, entry);
  }

  #release(text: string, { key }: Entry): boolean {
    if (!this.#limited.delete(text)) return false;
    if (key.scope !== 'source') this.#narrow--;
    return true;
  }

  #control({ key, accepted }: Entry, nowMs: number): RateControl {
    const part = (): number => this.#settings.sharing.part(key);
    return new RateControl(this.#settings, () => this.#settings.bounds(key.site), nowMs, accepted, part);
  }

  #tell(entry: Entry, cause: ChangeCause, now = limitOf(entry)): void {
    const { key, told: before, reply, refusals } = entry;
    entry.told = now;
    entry.refusals = 0;
    this.#ports.limit(key, now);
    this.#ports.changed({ key, before, now, cause, reply, refusals });
  }
}

const newsOf = ({ key, rate, connections, reply }: Entry, nowMs: number): KeyNews => ({
  key: keyText(key),
  rate: rate?.news(nowMs) ?? null,
  connections: connections?.news() ?? null,
  reply,
});

const grewMuch = (told: LearnedLimit, now: LearnedLimit): boolean =>
  !now.probing &&
  !told.probing &&
  Number.isFinite(told.messagesPerS) &&
  now.messagesPerS >= told.messagesPerS * TOLD_GROWTH;

function limitOf({ rate, connections }: Entry): LearnedLimit {
  const most = connections?.most ?? Number.POSITIVE_INFINITY;
  if (rate === null) return most === Number.POSITIVE_INFINITY ? NO_LIMIT : { ...NO_LIMIT, connections: most };
  const { phase, perS, closedUntilMs } = rate.limit();
  const probing = phase === 'probing' || phase === 'blocked';
  return { phase, messagesPerS: perS, probing, closedUntilMs, connections: most };
}
