/** A suspension in the words of docs/words.md, as `suspensions --json` prints it. */
import { meansAll, type SuspensionRule } from '../mail/suspension.ts';
import { textOrNull, timeOf, timeOrNull } from './words.ts';

/** Of lists that are not empty one value each must fit; with none that has values it holds all mail. */
export interface SuspensionAnswer {
  id: string;
  all: boolean;
  destinations: readonly string[];
  domains: readonly string[];
  senders: readonly string[];
  users: readonly string[];
  tenants: readonly string[];
  campaigns: readonly string[];
  reason: string | null;
  created_by: string;
  /** null: it was ordered of a relay that shares its queue with no other. */
  node: string | null;
  created_at: string | null;
  /** null: when it is resumed. */
  ends_at: string | null;
}

export const suspensionAnswer = (rule: SuspensionRule): SuspensionAnswer => ({
  id: rule.id,
  all: meansAll(rule),
  destinations: rule.destinations,
  domains: rule.domains,
  senders: rule.senders,
  users: rule.users,
  tenants: rule.tenants,
  campaigns: rule.campaigns,
  reason: textOrNull(rule.reason),
  created_by: rule.createdBy,
  node: textOrNull(rule.node),
  created_at: rule.createdAtMs === 0 ? null : timeOf(rule.createdAtMs),
  ends_at: timeOrNull(rule.untilMs),
});
