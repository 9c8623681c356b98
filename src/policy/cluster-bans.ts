/**
 * Bans as all nodes know them: for each network the newest fact counts, be it a ban or its deletion. What changes in
 * this host's table becomes facts; facts of other nodes change the table, which every host saves. Times in facts are by
 * the clock of Redis, which is `aheadMs` ahead of the table's.
 */
import { formatNetwork, parseNetwork } from '../base/ip.ts';
import { BAN_KINDS, type Ban, type BanTable, shifted } from './ban-table.ts';

export interface BanFact {
  network: string;
  /** When it became so, by the clock of Redis. */
  atMs: number;
  /** `[kind, sinceMs, untilMs, times]` as JSON; '' when it was deleted. */
  text: string;
}

export interface ClusterBansOptions {
  table: BanTable;
  /** How long a ban that is over still counts. */
  forgetMs: () => number;
  /** At most twice so many facts are kept; beyond, those that end first are forgotten. */
  maxEntries: number;
}

/** A node that was away for longer may bring a deleted ban back. */
const DELETION_KEPT_MS = 86_400_000;

export class ClusterBans {
  readonly #options: ClusterBansOptions;
  readonly #known = new Map<string, BanFact>();
  /** Bans that this host's table has of them, as text with times by its own clock. */
  readonly #held = new Map<string, string>();
  #seenVersion = -1;

  constructor(options: ClusterBansOptions) {
    this.#options = options;
  }

  /** What this host found out since the last time. */
  changes(nowMs: number, aheadMs = 0): BanFact[] {
    const { table, forgetMs } = this.#options;
    const { version } = table;
    if (version === this.#seenVersion) return [];
    // A ban that is there at the first look is as old as it says; a later one is new now.
    const isFirst = this.#seenVersion === -1;
    this.#seenVersion = version;
    const facts: BanFact[] = [];
    for (const ban of table.list(nowMs - aheadMs - forgetMs())) {
      const held = textOf(ban);
      if (this.#held.get(ban.network) === held) continue;
      this.#held.set(ban.network, held);
      const shared = shifted(ban, aheadMs);
      const fact = { network: ban.network, atMs: isFirst ? shared.sinceMs : nowMs, text: textOf(shared) };
      this.#known.set(ban.network, fact);
      facts.push(fact);
    }
    return facts;
  }

  /** An operator deleted it here. */
  deleted(network: string, nowMs: number): BanFact {
    const fact = { network, atMs: nowMs, text: '' };
    this.#known.set(network, fact);
    this.#held.delete(network);
    return fact;
  }

  /** Another node's fact; one that cannot be read is passed over. */
  learn(fact: BanFact, nowMs: number, aheadMs = 0): void {
    const network = parseNetwork(fact.network);
    const known = this.#known.get(fact.network);
    if (network === null || (known !== undefined && known.atMs >= fact.atMs)) return;
    const { table } = this.#options;
    if (fact.text === '') {
      this.#known.set(fact.network, fact);
      this.#held.delete(fact.network);
      table.remove(network);
      return;
    }
    const ban = banOf(fact);
    if (ban === null || formatNetwork(network) !== fact.network) return;
    if (ban.untilMs + this.#options.forgetMs() > nowMs) table.put(network, shifted(ban, -aheadMs));
    // Noted as the table has it, so that `changes` does not take it for one of ours.
    const held = table.get(network);
    this.#known.set(fact.network, fact);
    if (held !== null) this.#held.set(fact.network, textOf(held));
  }

  /** Learns all that the others know. @returns what they do not know. */
  meet(theirs: readonly BanFact[], nowMs: number, aheadMs = 0): BanFact[] {
    this.changes(nowMs, aheadMs);
    const told = new Map(theirs.map((fact) => [fact.network, fact.atMs]));
    for (const fact of theirs) this.learn(fact, nowMs, aheadMs);
    return [...this.#known.values()].filter(({ network, atMs }) => (told.get(network) ?? -1) < atMs);
  }

  /** Forgets facts that no longer count. @returns their networks. */
  prune(nowMs: number): string[] {
    const { forgetMs, maxEntries } = this.#options;
    const gone: string[] = [];
    const lasting: [endMs: number, network: string][] = [];
    for (const fact of this.#known.values()) {
      const ban = banOf(fact);
      const endMs = ban === null ? fact.atMs + DELETION_KEPT_MS : ban.untilMs + forgetMs();
      if (endMs <= nowMs) gone.push(fact.network);
      else lasting.push([endMs, fact.network]);
    }
    const excess = lasting.length - 2 * maxEntries;
    if (excess > 0) {
      lasting.sort(([a], [b]) => a - b);
      for (const [, network] of lasting.slice(0, excess)) gone.push(network);
    }
    for (const network of gone) {
      this.#known.delete(network);
      this.#held.delete(network);
    }
    return gone;
  }
}

const textOf = ({ kind, sinceMs, untilMs, times }: Ban): string =>
  JSON.stringify([kind, sinceMs, untilMs, times]);

function banOf({ network, text }: BanFact): Ban | null {
  if (text === '') return null;
  try {
    const [kind, sinceMs, untilMs, times] = JSON.parse(text);
    if (!BAN_KINDS.includes(kind)) return null;
    if (![sinceMs, untilMs, times].every((number) => Number.isSafeInteger(number) && number >= 0))
      return null;
    return { network, kind, sinceMs, untilMs, times };
  } catch {
    return null;
  }
}
