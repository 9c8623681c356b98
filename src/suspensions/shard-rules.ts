/**
 * What one shard of the queue knows of the rules: nodes tell each other through it. It is asked every second with a
 * digest of what it answered last, so that its answer is short while nothing changes.
 */
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { RulesAnswer } from '../database/database.ts';
import type { SuspensionRule } from '../mail/suspension.ts';

export interface ShardRulesPorts {
  name: string;
  /** Tells the shard what is news, and asks for all it has. @throws when it does not answer. */
  exchange(news: SuspensionRule[], digest: string): Promise<RulesAnswer>;
  log: Log;
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
  #fault = '';

  constructor(ports: ShardRulesPorts) {
    this.#ports = ports;
    this.name = ports.name;
  }

  /** Whether it has not answered yet what it was asked. */
  get busy(): boolean {
    return this.#asking !== null;
  }

  /** @param rules what is known here. @returns what is known there, or [] as before; null when it did not answer. */
  async exchange(rules: readonly SuspensionRule[]): Promise<SuspensionRule[] | null> {
    // One that is under way may have been begun before these rules were known.
    while (this.#asking !== null) await this.#asking;
    this.#asking = this.#exchange(rules).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #exchange(rules: readonly SuspensionRule[]): Promise<SuspensionRule[] | null> {
    const news = rules.filter(({ id, endedAtMs }) => {
      const over = this.#there.get(id);
      return over === undefined || (!over && endedAtMs !== null);
    });
    try {
      const answer = await this.#ports.exchange(news, this.#digest);
      for (const { id, endedAtMs } of news) this.#there.set(id, endedAtMs !== null);
      if (answer !== null) {
        this.#digest = answer.digest;
        this.#there = new Map(answer.rules.map(({ id, endedAtMs }) => [id, endedAtMs !== null]));
      }
      this.known = true;
      this.#fault = '';
      return answer?.rules ?? [];
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  /** The health of shards is watched and logged elsewhere; what else is wrong is said once. */
  #failed(error: unknown): void {
    if (error instanceof RelayError && error.temporary) return;
    const { message } = error as Error;
    if (message !== this.#fault)
      this.#ports.log.warn('suspensions.shard_failed', { shard: this.name, error });
    this.#fault = message;
  }
}
