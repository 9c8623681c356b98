/**
 * Rules of operators that hold mail back: what a rule says, and which mail it means. Pure; where rules live is in
 * src/suspensions.
 */
import { domainKey, domainOf } from '../base/domain.ts';
import { globOf, literalOf } from '../base/glob.ts';
import type { Job, JobRecipient } from './job.ts';
import { isFailKey } from './operator-keys.ts';
import { meantBy, type Selection } from './selection.ts';

/**
 * What a rule means: mail that fits all selectors; one that is empty fits everything, so empty ones alone mean all mail.
 * Texts are patterns (base/glob.ts) in the
 * form of selectorForm.
 */
export interface SuspensionSelectors {
  destinations: string[];
  /** Domains of recipients. */
  domains: string[];
  /** Reverse-paths; '' is the null one. */
  senders: string[];
  users: string[];
  /** Attributes of the message. */
  tenants: string[];
  campaigns: string[];
}

/** It never changes, but for its end: so replicas agree, in whatever order they hear of it. */
export interface SuspensionRule extends SuspensionSelectors {
  id: string;
  /** What the operator wrote; ''. */
  reason: string;
  createdBy: string;
  /** node_id of the relay that took the order. */
  node: string;
  createdAtMs: number;
  /** null: until it is resumed. */
  untilMs: number | null;
  /** When an operator resumed it; null while it holds. */
  endedAtMs: number | null;
}

/** Most patterns of one selector, and most rules that hold at a time. */
export const MAX_PATTERNS = 100;
export const MAX_RULES = 200;
export const MAX_PATTERN_LENGTH = 320;
export const MAX_REASON_LENGTH = 200;
export const MAX_NAME_LENGTH = 100;

export const SELECTORS = ['destinations', 'domains', 'senders', 'users', 'tenants', 'campaigns'] as const;

/** A sender in the one form in which it is compared. */
export function senderForm(address: string): string {
  const at = address.lastIndexOf('@');
  if (at < 0) return address.toLowerCase();
  return `${address.slice(0, at).toLowerCase()}@${domainKey(address.slice(at + 1))}`;
}

/** Whether the rule holds whole destinations, whatever mail is for them. */
export const isWide = (rule: SuspensionSelectors): boolean =>
  SELECTORS.every((name) => name === 'destinations' || rule[name].length === 0);

/** Whether the rule holds all mail. */
export const meansAll = (rule: SuspensionSelectors): boolean =>
  isWide(rule) && rule.destinations.length === 0;

type Test = ((text: string) => boolean) | null;

interface Compiled {
  rule: SuspensionRule;
  destination: Test;
  domain: Test;
  sender: Test;
  user: Test;
  tenant: Test;
  campaign: Test;
}

/** What rules need to know of an entry. */
export type SuspendedJob = Pick<Job, 'destination' | 'reversePath' | 'user' | 'attributes'> & {
  recipients: Pick<JobRecipient, 'address'>[];
};

export class SuspensionMatcher {
  readonly #wide: Compiled[];
  readonly #narrow: Compiled[];

  constructor(rules: readonly SuspensionRule[]) {
    const compiled = rules.map((rule) => ({
      rule,
      destination: matcherOf(rule.destinations),
      domain: matcherOf(rule.domains),
      sender: matcherOf(rule.senders),
      user: matcherOf(rule.users),
      tenant: matcherOf(rule.tenants),
      campaign: matcherOf(rule.campaigns),
    }));
    this.#wide = compiled.filter(({ rule }) => isWide(rule));
    this.#narrow = compiled.filter(({ rule }) => !isWide(rule));
  }

  /** Whether there is any rule. */
  get any(): boolean {
    return this.#wide.length + this.#narrow.length > 0;
  }

  /** The rule that holds the whole destination; null when none does. */
  ofDestination(destination: string): SuspensionRule | null {
    if (isFailKey(destination)) return null;
    for (const { rule, destination: test } of this.#wide) if (fits(test, destination)) return rule;
    return null;
  }

  /** All rules that hold recipients of the entry. */
  of(job: SuspendedJob): SuspensionRule[] {
    const domains = job.recipients.map(({ address }) => domainOf(address));
    return this.#concerned(job)
      .filter(({ domain }) => domains.some((one) => fits(domain, one)))
      .map(({ rule }) => rule);
  }

  /** The recipients that are held, by the rule that holds them (the first one); null when none is. */
  heldOf(job: Job): Map<SuspensionRule, JobRecipient[]> | null {
    const concerned = this.#concerned(job);
    if (concerned.length === 0) return null;
    const held = new Map<SuspensionRule, JobRecipient[]>();
    for (const recipient of job.recipients) {
      const domain = domainOf(recipient.address);
      const found = concerned.find((one) => fits(one.domain, domain));
      if (found === undefined) continue;
      const same = held.get(found.rule);
      if (same === undefined) held.set(found.rule, [recipient]);
      else same.push(recipient);
    }
    return held.size === 0 ? null : held;
  }

  #concerned({ destination, reversePath, user, attributes }: SuspendedJob): Compiled[] {
    // An operator ends it, and nothing is sent.
    if (isFailKey(destination)) return [];
    const sender = senderForm(reversePath);
    return [...this.#wide, ...this.#narrow].filter(
      (one) =>
        fits(one.destination, destination) &&
        fits(one.sender, sender) &&
        fitsKnown(one.user, user) &&
        fitsKnown(one.tenant, attributes?.tenant) &&
        fitsKnown(one.campaign, attributes?.campaign),
    );
  }
}

/** null: there are no patterns, so everything fits. */
function matcherOf(patterns: readonly string[]): Test {
  if (patterns.length === 0) return null;
  const literals = new Set(patterns.map(literalOf));
  const globs = patterns.filter((pattern) => literalOf(pattern) === null).map(globOf);
  return (text) => literals.has(text.toLowerCase()) || globs.some((matches) => matches(text));
}

const fits = (test: Test, text: string): boolean => test === null || test(text);

/** Of what a message may not have. */
const fitsKnown = (test: Test, text: string | undefined): boolean =>
  test === null || (text !== undefined && test(text));

/** What delivery is to give back, as far as it has not begun with it. */
export type TakenBack = { selection: Selection } | { rules: SuspensionRule[] };

/** Which jobs are meant; with rules those of which any recipient is held. */
export function judgeOf(meant: TakenBack): (job: Job) => boolean {
  if ('selection' in meant) return meantBy(meant.selection);
  const matcher = new SuspensionMatcher(meant.rules);
  return (job) => matcher.heldOf(job) !== null;
}

/** Entries of which these rules hold recipients, and that are not due. */
export const suspendedBy = (ids: readonly string[], nowMs: number): Selection<never> => ({
  reasons: ['suspended'],
  details: ids.flatMap((id) => [`rule ${id}`, `rule ${id}:*`]),
  notDueAtMs: nowMs,
});

/** 'rule k7q2m9xd: reason', as it is stored with an entry: its beginning tells which rule it is. */
export const suspendedDetail = ({ id, reason }: SuspensionRule): string =>
  reason === '' ? `rule ${id}` : `rule ${id}: ${reason}`;
