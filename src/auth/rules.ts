/** What a user may do: by the config for all, by the backend for the user, by the config for that user; the last counts. */
import { domainOf } from '../base/domain.ts';
import type { Config } from '../config/schema.ts';
import type { UserRules } from './auth.ts';

/** What a backend or the config says of one user; what is absent holds as for all. */
export type GivenRules = Config['auth']['users'][string];

const NUMBERS = [
  'messages_per_hour',
  'messages_per_day',
  'recipients_per_hour',
  'recipients_per_day',
] as const;
const POLICIES = ['any', 'login', 'list'] as const;
const KEYS: readonly string[] = [...NUMBERS, 'sender_policy', 'senders'];

export function rulesOf(auth: Config['auth'], username: string, given: GivenRules): UserRules {
  const own = Object.hasOwn(auth.users, username) ? (auth.users[username] as GivenRules) : {};
  const all = { ...without(given), ...without(own) };
  const senders = (all.senders ?? []).map(lowerDomain);
  return {
    // A user that is given a list of senders is meant to keep to it.
    senderPolicy: all.sender_policy ?? (senders.length > 0 ? 'list' : auth.sender_policy),
    senders,
    quotas: {
      messagesPerHour: all.messages_per_hour ?? auth.messages_per_hour,
      messagesPerDay: all.messages_per_day ?? auth.messages_per_day,
      recipientsPerHour: all.recipients_per_hour ?? auth.recipients_per_hour,
      recipientsPerDay: all.recipients_per_day ?? auth.recipients_per_day,
    },
  };
}

function without(rules: GivenRules): GivenRules {
  return Object.fromEntries(Object.entries(rules).filter(([, value]) => value !== undefined));
}

function lowerDomain(sender: string): string {
  return sender.slice(0, sender.lastIndexOf('@') + 1) + domainOf(sender);
}

/**
 * Reads rules from the words of a user file, the columns of a table or the fields of JSON.
 * @param record values that are null, '' or undefined say nothing.
 * @param strict a name that we do not know is an error.
 * @returns the rules, or what is wrong with them.
 */
export function readRules(record: Record<string, unknown>, strict: boolean): GivenRules | string {
  const rules: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(record)) {
    if (!KEYS.includes(name)) {
      if (strict) return `"${name}" is none of ${KEYS.join(', ')}`;
      continue;
    }
    if (value === null || value === undefined || value === '') continue;
    const read = readRule(name, value);
    if (read === undefined) return `"${name}" has a value it cannot have`;
    rules[name] = read;
  }
  return rules as GivenRules;
}

function readRule(name: string, value: unknown): unknown {
  if (name === 'sender_policy') return POLICIES.find((policy) => policy === value);
  if (name === 'senders') {
    const list = Array.isArray(value) ? value : typeof value === 'string' ? value.split(',') : [0];
    return list.every((one) => typeof one === 'string' && one !== '') ? list : undefined;
  }
  const number = typeof value === 'string' ? Number(value) : value;
  return Number.isInteger(number) && (number as number) >= 0 && (number as number) <= 2e9
    ? number
    : undefined;
}
