/** Limits of sources at sites, and gates, as those set them that learn: by way of the table of the process, and of messages to its threads. */
import { limitForRate } from '../shaping/adaptive/allowed.ts';
import { limitKeyText } from '../shaping/limit-key.ts';
import type { LimitKeys } from '../shaping/limit-keys.ts';
import type { Gate } from '../shaping/message-gates.ts';
import type { LimitAccess, LimitSetter, LiveKey } from './limit-access.ts';

export class SiteLimits implements LimitAccess {
  readonly #keys: LimitKeys;
  readonly #threads: number;
  readonly #post: (gates: readonly Gate[]) => void;
  readonly #gates = new Map<LimitSetter, readonly Gate[]>();

  readonly #sharers: () => number;

  /** @param sharers number of processes that share limits. */
  constructor(
    keys: LimitKeys,
    threads: number,
    sharers: () => number,
    post: (gates: readonly Gate[]) => void,
  ) {
    this.#keys = keys;
    this.#sharers = sharers;
    this.#threads = threads;
    this.#post = post;
  }

  *keys(): Generator<LiveKey> {
    for (const [, entry] of this.#keys.entries()) {
      const live = this.#live(entry);
      if (live !== null) yield live;
    }
  }

  key(source: string, site: string): LiveKey | null {
    const entry = this.#keys.entry(nameOf(source, site));
    return entry === null ? null : this.#live(entry);
  }

  set(
    source: string,
    site: string,
    by: LimitSetter,
    { messagesPerS, connections, closedUntilMs, isShared = false }: Parameters<LimitAccess['set']>[3],
  ): void {
    const name = nameOf(source, site);
    const rate = Number.isFinite(messagesPerS) ? { messages_per_s: limitForRate(messagesPerS) } : {};
    const most = Number.isFinite(connections) ? { max_connections: connections } : {};
    const cap = { ...rate, ...most };
    this.#keys.cap(name, by, Object.keys(cap).length === 0 ? null : cap, isShared);
    this.#keys.close(name, by, closedUntilMs);
  }

  part(source: string | null, site: string): number {
    return (source === null ? null : this.#keys.shareOf(nameOf(source, site)))?.part ?? 1 / this.#sharers();
  }

  #live({ key, slot }: NonNullable<ReturnType<LimitKeys['entry']>>): LiveKey | null {
    const { site, provider, source } = key;
    if (source === null) return null;
    const most = this.#keys.standing(key).data.max_connections ?? 0;
    return {
      site,
      provider,
      source,
      taken: slot.counts.sent,
      open: slot.open,
      maxConnections: most === 0 ? Number.POSITIVE_INFINITY : most,
    };
  }

  /** The gates of a site, with the rates of the process. */
  gatesAt(site: string): Gate[] {
    return [...this.#gates.values()].flat().filter((gate) => gate.site === site);
  }

  gates(by: LimitSetter, gates: readonly Gate[]): void {
    const before = this.#gates.get(by) ?? [];
    if (before.length === 0 && gates.length === 0) return;
    this.#gates.set(by, gates);
    const all = [...this.#gates.values()].flat();
    this.#post(all.map((gate) => ({ ...gate, messagesPerS: gate.messagesPerS / this.#threads })));
  }
}

const nameOf = (source: string, site: string): string => limitKeyText({ source, site, provider: '' });
