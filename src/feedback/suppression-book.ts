/**
 * The suppression list over all its tables: one for each shard, or for each process that has a queue of its own. Mail writes an
 * entry where it is settled, an operator where its hash says; one that is in any table counts. So what is looked for is
 * looked for in all of them, and what is removed is removed from all.
 */
import { RelayError } from '../base/errors.ts';
import type { SuppressionTable } from '../database/database.ts';
import {
  holdsLonger,
  isCount,
  isInForce,
  type Suppression,
  type SuppressionKey,
  type SuppressionOrder,
  suppressionHash,
} from '../mail/suppression.ts';

export interface SuppressionPart extends SuppressionTable {
  /** Number of the shard, or of the process. */
  index: number;
  /** For messages to the operator. */
  name: string;
  /** Whether it is a file of this host: then operators' entries are all in that of process 0. */
  ofHost: boolean;
}

export interface SuppressionChoice {
  tenant: string | null;
  reason: string | null;
}

const PAGE = 2000;

export class SuppressionBook {
  readonly #parts: () => readonly SuppressionPart[];
  readonly #now: () => number;

  constructor(parts: () => readonly SuppressionPart[], now: () => number) {
    this.#parts = parts;
    this.#now = now;
  }

  get parts(): readonly SuppressionPart[] {
    return this.#parts();
  }

  /** The entries in force for these lists and targets. @throws RelayError when a table does not answer. */
  async find(pairs: { tenant: string; target: string }[]): Promise<Suppression[]> {
    if (pairs.length === 0) return [];
    const found = await Promise.all(this.parts.map((part) => part.suppression({ op: 'find', pairs })));
    const nowMs = this.#now();
    const longest = new Map<string, Suppression>();
    for (const entry of found.flat()) {
      if (!isInForce(entry, nowMs) || isCount(entry)) continue;
      const key = JSON.stringify([entry.tenant, entry.target, entry.scope]);
      const other = longest.get(key);
      if (other === undefined || holdsLonger(entry, other)) longest.set(key, entry);
    }
    return [...longest.values()];
  }

  /**
   * @param replace whatever is there already; else the entry that holds longer stays.
   * @throws RelayError when a table does not answer: then a part of them may be written.
   */
  async put(entries: readonly Suppression[], replace: boolean): Promise<{ added: number; changed: number }> {
    const { parts } = this;
    const byPart = Map.groupBy(entries, ({ tenant, target }) => homeOf(parts, tenant, target));
    const done = await Promise.all(
      [...byPart].map(([part, some]) => part.suppression({ op: 'put', entries: some, replace })),
    );
    return {
      added: done.reduce((sum, { added }) => sum + added, 0),
      changed: done.reduce((sum, { changed }) => sum + changed, 0),
    };
  }

  /** An entry that is called for, or its count, in the one table that has all counts of the address. @throws RelayError when it does not answer. */
  async learn(order: SuppressionOrder): Promise<void> {
    await homeOf(this.parts, order.tenant, order.target).suppression({ op: 'learn', order });
  }

  /** @returns how many there were. @throws RelayError when a table does not answer: there they may stay. */
  async remove(keys: SuppressionKey[]): Promise<number> {
    const done = await Promise.allSettled(this.parts.map((part) => part.suppression({ op: 'remove', keys })));
    const failed = done.findIndex(({ status }) => status === 'rejected');
    if (failed >= 0) {
      const { reason } = done[failed] as PromiseRejectedResult;
      const { name } = this.parts[failed] as SuppressionPart;
      const text = `${name} does not answer, and may keep them: ${(reason as Error).message}; run the command again`;
      throw new RelayError('database_unavailable', text, reason);
    }
    return done.reduce((sum, one) => sum + (one as PromiseFulfilledResult<number>).value, 0);
  }

  /** Entries in force, table by table. */
  async *list({ tenant, reason }: SuppressionChoice): AsyncGenerator<Suppression[]> {
    for (const part of this.parts)
      for (let after: string | null = ''; after !== null; ) {
        const from: string = after;
        const page = await part.suppression({ op: 'list', after: from, limit: PAGE, tenant, reason });
        const nowMs = this.#now();
        yield page.entries.filter((entry) => isInForce(entry, nowMs));
        after = page.next;
      }
  }
}

function homeOf(parts: readonly SuppressionPart[], tenant: string, target: string): SuppressionPart {
  const [first] = parts;
  if (first === undefined) throw new RelayError('database_unavailable', 'there is no queue yet');
  const { ofHost } = first;
  return ofHost ? first : (parts[suppressionHash(tenant, target) % parts.length] as SuppressionPart);
}
