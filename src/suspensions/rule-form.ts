/** Rules as text: how selectors are written down and checked, and a rule in its file. */
import { randomInt } from 'node:crypto';
import { printable } from '../base/printable.ts';
import { timeIn } from '../base/time-text.ts';
import { destinationPattern, domainPattern } from '../mail/selection.ts';
import {
  MAX_NAME_LENGTH,
  MAX_PATTERN_LENGTH,
  MAX_PATTERNS,
  MAX_REASON_LENGTH,
  SELECTORS,
  type SuspensionRule,
  type SuspensionSelectors,
  senderForm,
} from '../mail/suspension.ts';

const ID_DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';
const ID_LENGTH = 8;
const ID = /^[0-9a-z]{1,16}$/;

export const newRuleId = (): string =>
  Array.from({ length: ID_LENGTH }, () => ID_DIGITS[randomInt(ID_DIGITS.length)]).join('');

export const isRuleId = (text: string): boolean => ID.test(text);

const FORMS: Record<keyof SuspensionSelectors, (pattern: string) => string> = {
  destinations: destinationPattern,
  domains: domainPattern,
  senders: (pattern) => senderForm(pattern === '<>' ? '' : pattern),
  users: (pattern) => pattern,
  tenants: (pattern) => pattern,
  campaigns: (pattern) => pattern,
};

/** Selectors in the form in which they are compared: each pattern once, in order. */
export function selectorForm(written: SuspensionSelectors): SuspensionSelectors {
  const form = (name: keyof SuspensionSelectors): string[] =>
    [...new Set(written[name].map(FORMS[name]))].sort();
  return {
    destinations: form('destinations'),
    domains: form('domains'),
    senders: form('senders'),
    users: form('users'),
    tenants: form('tenants'),
    campaigns: form('campaigns'),
  };
}

export const sameSelectors = (a: SuspensionSelectors, b: SuspensionSelectors): boolean =>
  SELECTORS.every(
    (name) => a[name].length === b[name].length && a[name].every((one, i) => one === b[name][i]),
  );

/**
 * A rule in its file: fields as operators see them. Relays that know of no tenants and campaigns would take
 * a rule by these alone for one of all mail: it has no field `users` then, without which they take none.
 */
export function ruleText(rule: SuspensionRule): string {
  const { id, destinations, domains, senders, users, tenants, campaigns, reason, createdBy, node } = rule;
  const narrowed = tenants.length + campaigns.length > 0;
  const fields = {
    id,
    destinations,
    domains,
    senders,
    ...(narrowed && users.length === 0 ? {} : { users }),
    ...(narrowed ? { tenants, campaigns } : {}),
    reason,
    created_by: createdBy,
    node,
    created_at: timeText(rule.createdAtMs),
    ends_at: timeText(rule.untilMs),
    ended_at: timeText(rule.endedAtMs),
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

/** @throws Error saying what is wrong with the text. */
export function readRule(text: string): SuspensionRule {
  const fields = JSON.parse(text) as Record<string, unknown>;
  const field = (name: string): unknown => {
    if (fields === null || typeof fields !== 'object' || !Object.hasOwn(fields, name))
      throw new Error(`it has no ${name}`);
    return fields[name];
  };
  const textOf = (name: string, longest: number): string => {
    const value = field(name);
    if (typeof value !== 'string' || value.length > longest)
      throw new Error(`its ${name} is no text of ${longest} characters at most`);
    return value;
  };
  const time = (name: string): number | null => {
    const value = field(name);
    if (value === null) return null;
    const ms = typeof value === 'string' ? timeIn(value) : Number.NaN;
    if (Number.isNaN(ms)) throw new Error(`its ${name} is no time`);
    return ms;
  };
  const patterns = (name: string): string[] => {
    const value = field(name);
    const fine =
      Array.isArray(value) &&
      value.length <= MAX_PATTERNS &&
      value.every((one) => typeof one === 'string' && one.length <= MAX_PATTERN_LENGTH);
    if (!fine) throw new Error(`its ${name} are no list of patterns`);
    return value;
  };
  const optional = (name: string): string[] => (Object.hasOwn(fields, name) ? patterns(name) : []);
  const narrowed = optional('tenants').length + optional('campaigns').length > 0;
  const id = textOf('id', 16);
  if (!isRuleId(id)) throw new Error('its id has other characters than 0-9 and a-z');
  const selectors = selectorForm({
    destinations: patterns('destinations'),
    domains: patterns('domains'),
    senders: patterns('senders'),
    users: narrowed ? optional('users') : patterns('users'),
    tenants: optional('tenants'),
    campaigns: optional('campaigns'),
  });
  return {
    id,
    ...selectors,
    reason: printable(textOf('reason', MAX_REASON_LENGTH)),
    createdBy: printable(textOf('created_by', MAX_NAME_LENGTH)),
    node: printable(textOf('node', MAX_NAME_LENGTH)),
    createdAtMs: time('created_at') ?? 0,
    untilMs: time('ends_at'),
    endedAtMs: time('ended_at'),
  };
}

const timeText = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
