/**
 * Who gets banned, and for how long: failures are counted in a bucket for each client, and the failure that overflows it
 * bans the client. Each ban is longer than the one before, until the client has been quiet for a time.
 */
import { clientNetwork, formatNetwork, type Ip } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import type { Ban, BanTable, FailureKind } from './ban-table.ts';
import type { CounterStore } from './counters.ts';

type Rules = Config['policy']['bans'];

/** How long the ban lasts that is the client's `times`-th in a row, from 1. */
export function banDurationMs(
  times: number,
  rules: Pick<Rules, 'duration_ms' | 'growth' | 'max_duration_ms'>,
): number {
  return Math.min(rules.max_duration_ms, rules.duration_ms * rules.growth ** Math.min(times - 1, 1000));
}

export class Bans {
  readonly #table: BanTable;
  readonly #counters: CounterStore;
  readonly #rules: Rules;

  constructor(table: BanTable, counters: CounterStore, rules: Rules) {
    this.#table = table;
    this.#counters = counters;
    this.#rules = rules;
  }

  find(ip: Ip, nowMs: number): Ban | null {
    return this.#table.find(ip, nowMs);
  }

  /** A client did something that an honest one seldom does. Answers the ban that follows from it, or null. */
  failure(ip: Ip, kind: FailureKind, nowMs: number): Ban | null | Promise<Ban | null> {
    const { max_failures, window_ms } = this.#rules;
    const allowed = max_failures[kind];
    if (allowed === 0) return null;
    const network = clientNetwork(ip);
    const bucket = { limit: allowed, intervalMs: window_ms, burst: allowed };
    const taken = this.#counters.take(`failure ${kind} ${formatNetwork(network)}`, 1, bucket, nowMs);
    if (typeof taken !== 'number')
      return taken.then((late) => (late === 0 ? null : this.#ban(ip, kind, nowMs)));
    return taken === 0 ? null : this.#ban(ip, kind, nowMs);
  }

  #ban(ip: Ip, kind: FailureKind, nowMs: number): Ban | null {
    const network = clientNetwork(ip);
    const before = this.#table.get(network);
    // Other sessions of the client go on failing until they have ended: one ban is enough.
    if (before !== null && before.untilMs > nowMs) return null;
    const lately = before !== null && before.untilMs + this.#rules.forget_ms > nowMs;
    const times = lately ? before.times + 1 : 1;
    const untilMs = nowMs + banDurationMs(times, this.#rules);
    const ban = { kind, sinceMs: nowMs, untilMs, times };
    this.#table.put(network, ban);
    return { ...ban, network: formatNetwork(network) };
  }
}
