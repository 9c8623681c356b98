/**
 * What one shard of the queue knows of the rules: nodes tell each other through it. It is asked every second with a
 * digest of what it answered last, so that its answer is short while nothing changes.
 */
import type { SuspensionRule } from '../mail/suspension.ts';

/** The rules of a shard. null: they have that digest still. */
export type RulesAnswer = { digest: string; rules: SuspensionRule[] } | null;

export interface ShardRulesPorts {
  name: string;
  /** @throws when the shard does not answer. */
  read(digest: string): Promise<RulesAnswer>;
  tell(rules: SuspensionRule[]): Promise<void>;
}

export class ShardRules {
  readonly name: string;
  /** Whether it has answered since the start. */
  known = false;
  readonly #ports: ShardRulesPorts;
  #digest = '';
  /** The rules it has; true: it knows that they are over. */
  #there = new Map<string, boolean>();
  #asking: Promise<SuspensionRule[] | null> | null = null;

  constructor(ports: ShardRulesPorts) {
    this.#ports = ports;
    this.name = ports.name;
  }

  /** @param rules what is known here. @returns what the shard has; null when it did not answer. */
  async exchange(rules: readonly SuspensionRule[]): Promise<SuspensionRule[] | null> {
    // One that is under way may have been begun before these rules were known.
    while (this.#asking !== null) await this.#asking;
    this.#asking = this.#exchange(rules).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #exchange(rules: readonly SuspensionRule[]): Promise<SuspensionRule[] | null> {
    try {
      const answer = await this.#ports.read(this.#digest);
      if (answer !== null) {
        this.#digest = answer.digest;
        this.#there = new Map(answer.rules.map(({ id, endedAtMs }) => [id, endedAtMs !== null]));
      }
      const news = rules.filter(({ id, endedAtMs }) => {
        const over = this.#there.get(id);
        return over === undefined || (!over && endedAtMs !== null);
      });
      if (news.length > 0) {
        await this.#ports.tell(news);
        for (const { id, endedAtMs } of news) this.#there.set(id, endedAtMs !== null);
      }
      this.known = true;
      return answer?.rules ?? [];
    } catch {
      // The health of shards is watched and logged elsewhere.
      return null;
    }
  }
}
