/** What rules hold back now: each until a time, over a restart too (../kept-lines.ts). */
import { readRecordLines } from '../../base/record-lines.ts';
import type { DeliveryRule } from '../../config/delivery-rules-schema.ts';

export const HOLDS_FILE = 'rule-holds.jsonl';
const MAX_FILE_BYTES = 16_777_216;
/** Beyond, the one that ends first is let go. */
const MAX_HOLDS = 10_000;

export interface Hold {
  rule: string;
  target: DeliveryRule['target'];
  value: string;
  site: string;
  /** 0: nothing goes. */
  messagesPerS: number;
  /** The pool by which its mail leaves; then it is not held back. */
  pool?: string;
  /** Why its mail fails; then it is not held back. */
  bounces?: string;
  /** Time of day. */
  untilMs: number;
}

const keyOf = ({ rule, target, value, site }: Hold): string => `${rule}\t${target}\t${value}\t${site}`;

export class Holds {
  readonly #holds = new Map<string, Hold>();

  get size(): number {
    return this.#holds.size;
  }

  all(): Iterable<Hold> {
    return this.#holds.values();
  }

  add(hold: Hold): void {
    this.#holds.set(keyOf(hold), hold);
    if (this.#holds.size <= MAX_HOLDS) return;
    let first = hold;
    for (const one of this.#holds.values()) if (one.untilMs < first.untilMs) first = one;
    this.#holds.delete(keyOf(first));
  }

  /** Lets go those that are over, and those of rules that are no more. @returns them. */
  over(nowMs: number, isRule: (name: string) => boolean): Hold[] {
    const over = [...this.#holds.values()].filter(({ rule, untilMs }) => untilMs <= nowMs || !isRule(rule));
    for (const one of over) this.#holds.delete(keyOf(one));
    return over;
  }

  /** The least of what holds for a source at a site: of the source there, and of all that goes there. */
  ofSource(source: string, site: string): { messagesPerS: number; closedUntilMs: number } {
    let [messagesPerS, closedUntilMs] = [Number.POSITIVE_INFINITY, 0];
    for (const hold of this.#holds.values()) {
      if (hold.site !== site || hold.pool !== undefined || hold.bounces !== undefined) continue;
      if (hold.target !== 'provider' && !(hold.target === 'source' && hold.value === source)) continue;
      if (hold.messagesPerS > 0) messagesPerS = Math.min(messagesPerS, hold.messagesPerS);
      else closedUntilMs = Math.max(closedUntilMs, hold.untilMs);
    }
    return { messagesPerS, closedUntilMs };
  }
}

/** @returns none where there is no file. */
export const readHolds = (path: string): Hold[] => readRecordLines(path, holdIn, MAX_FILE_BYTES).records;

function holdIn(line: string): Hold | null {
  try {
    const value: unknown = JSON.parse(line);
    return isHold(value) ? value : null;
  } catch {
    return null;
  }
}

const TARGETS: readonly unknown[] = ['source', 'provider', 'tenant', 'campaign', 'from_domain'];

function isHold(value: unknown): value is Hold {
  if (typeof value !== 'object' || value === null) return false;
  const { rule, target, value: of, site, messagesPerS, pool, bounces, untilMs } = value as Partial<Hold>;
  const texts = [rule, of, site, pool ?? '', bounces ?? ''].every((text) => typeof text === 'string');
  return texts && TARGETS.includes(target) && Number(messagesPerS) >= 0 && Number.isFinite(untilMs);
}
