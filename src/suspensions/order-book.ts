/**
 * The rules as operators see and change them: one for the host, in the process that has its control socket, or in the
 * command line where no relay runs. A change is in the host's files before any relay process hears of it.
 */
import { RelayError } from '../base/errors.ts';
import { printable } from '../base/printable.ts';
import {
  MAX_PATTERN_LENGTH,
  MAX_PATTERNS,
  MAX_RULES,
  SELECTORS,
  type SuspensionRule,
  type SuspensionSelectors,
} from '../mail/suspension.ts';
import type { FilesRead, RuleFiles } from './rule-files.ts';
import { newRuleId, readRule, ruleText, sameSelectors, selectorForm } from './rule-form.ts';
import { type Clocks, RuleSet } from './rule-set.ts';
import { DAMAGED, damagedRule } from './suspensions.ts';

export interface SuspendOrder extends SuspensionSelectors {
  reason: string;
  createdBy: string;
  /** How long the rule holds, or until when; neither: until it is resumed. */
  durationMs: number | null;
  untilMs: number | null;
}

/** Rules by id, those with just these selectors, or all. */
export type ResumeOrder = { ids: string[] } | { selectors: SuspensionSelectors } | 'all';

/** What became of an order. */
export interface Ordered {
  rules: SuspensionRule[];
  /** Ids that name no rule. */
  unknown: string[];
  /** Who has not heard of it yet, and why; they follow by themselves. */
  unheard: string[];
}

export interface OrderBookPorts {
  files: RuleFiles;
  clocks: Clocks;
  /** node_id of this relay. */
  node: string;
  /** Tells the relay processes. @returns who did not hear. */
  tell(rules: SuspensionRule[]): Promise<string[]>;
}

export class OrderBook {
  readonly #ports: OrderBookPorts;
  readonly #rules: RuleSet;

  constructor(ports: OrderBookPorts) {
    this.#ports = ports;
    this.#rules = new RuleSet(ports.clocks);
  }

  /** The rules that hold mail, the oldest first. */
  list(): SuspensionRule[] {
    const { damaged } = this.#read();
    const rules = this.#rules.active();
    return damaged.length > 0 ? [damagedRule(damaged), ...rules] : rules;
  }

  /** @throws RelayError when there would be too many rules, or it cannot be kept. */
  async suspend(order: SuspendOrder): Promise<Ordered> {
    const { reason, createdBy, durationMs, untilMs, ...written } = order;
    const selectors = selectorForm(written);
    check(selectors);
    this.#read();
    if (this.#rules.active().length >= MAX_RULES)
      throw new RelayError(
        'control_failed',
        `there are ${MAX_RULES} suspensions already: resume some, or use patterns as *.example.com`,
      );
    const nowMs = this.#ports.clocks.now();
    let id = newRuleId();
    while (this.#rules.get(id) !== undefined) id = newRuleId();
    const endMs = durationMs === null ? untilMs : nowMs + durationMs;
    if (endMs !== null && endMs <= nowMs)
      throw new RelayError('control_failed', 'the suspension would be over already');
    const rule: SuspensionRule = {
      id,
      ...selectors,
      reason: printable(reason),
      createdBy: printable(createdBy),
      node: this.#ports.node,
      createdAtMs: nowMs,
      untilMs: endMs,
      endedAtMs: null,
    };
    // A file that cannot be read would hold all mail.
    try {
      readRule(ruleText(rule));
    } catch (error) {
      throw new RelayError('bad_request', `there is no such suspension: ${(error as Error).message}`);
    }
    return this.#order([rule], []);
  }

  /** @throws RelayError when the end cannot be kept. */
  async resume(order: ResumeOrder): Promise<Ordered> {
    const { damaged } = this.#read();
    const active = this.#rules.active();
    const ids =
      order === 'all' ? [DAMAGED, ...active.map(({ id }) => id)] : 'ids' in order ? order.ids : null;
    const meant =
      ids === null
        ? active.filter(sameAs((order as { selectors: SuspensionSelectors }).selectors))
        : active.filter(({ id }) => ids.includes(id));
    const nowMs = this.#ports.clocks.now();
    const over = meant.map((rule) => ({ ...rule, endedAtMs: nowMs }));
    const gaveUp = ids?.includes(DAMAGED) === true ? this.#giveUp(damaged) : [];
    const known = new Set([...over, ...gaveUp].map(({ id }) => id));
    const unknown = order === 'all' ? [] : (ids ?? []).filter((id) => !known.has(id));
    const ordered = await this.#order(over, unknown, gaveUp.length > 0);
    return { ...ordered, rules: [...gaveUp, ...ordered.rules] };
  }

  #giveUp(damaged: FilesRead['damaged']): SuspensionRule[] {
    if (damaged.length === 0) return [];
    try {
      this.#ports.files.setAside(damaged);
    } catch (error) {
      throw notKept(error);
    }
    return [damagedRule(damaged)];
  }

  async #order(rules: SuspensionRule[], unknown: string[], also = false): Promise<Ordered> {
    try {
      this.#ports.files.write(rules);
    } catch (error) {
      throw notKept(error);
    }
    this.#rules.merge(rules);
    const unheard = rules.length > 0 || also ? await this.#ports.tell(rules) : [];
    return { rules, unknown, unheard };
  }

  #read(): FilesRead {
    const read = this.#ports.files.read();
    this.#rules.merge(read.rules);
    for (const { id } of read.rules) if (this.#rules.get(id) === undefined) this.#ports.files.delete(id);
    return read;
  }
}

const sameAs = (written: SuspensionSelectors): ((rule: SuspensionRule) => boolean) => {
  const selectors = selectorForm(written);
  return (rule) => sameSelectors(rule, selectors);
};

function check(selectors: SuspensionSelectors): void {
  for (const name of SELECTORS) {
    const patterns = selectors[name];
    if (patterns.length > MAX_PATTERNS)
      throw new RelayError(
        'control_failed',
        `a suspension has at most ${MAX_PATTERNS} ${name}; make several`,
      );
    const long = patterns.find(
      (one) => one.length > MAX_PATTERN_LENGTH || (one === '' && name !== 'senders'),
    );
    if (long !== undefined)
      throw new RelayError('control_failed', `${name}: a pattern has 1 to ${MAX_PATTERN_LENGTH} characters`);
  }
}

function notKept(error: unknown): RelayError {
  return new RelayError(
    'storage_failed',
    `the suspension cannot be kept: ${(error as Error).message}`,
    error,
  );
}
