/** From a hit of the policy to the reply that refuses. */
import { POLICY_REPLY, type PolicyReason } from '../protocol/policy-reply.ts';
import { Reply } from '../protocol/reply.ts';
import type { Hit, Rule } from './part.ts';

/** These rules refuse the connection: the run-time text of their replies is our host name, and the connection is closed. */
const CLOSES_CONNECTION: ReadonlySet<Rule> = new Set([
  'ban',
  'total',
  'per_ip',
  'per_network',
  'connection_rate',
  'command_rate',
  'early_talker',
  'tarpit',
]);

const WHEN_UNKNOWN: Partial<Record<Rule, PolicyReason>> = {
  reverse_dns: 'reverse_dns_unknown',
  helo: 'helo_unknown',
  dnsbl: 'dnsbl_unknown',
  sender_domain: 'sender_domain_unknown',
  sender_address: 'address_unknown',
  recipient_address: 'address_unknown',
};

/** null when the hit is only logged or tagged. */
export function policyReply(hit: Hit, hostname: string): Reply | null {
  if (hit.mode !== 'defer' && hit.mode !== 'reject') return null;
  const unknown = hit.unknown === true ? WHEN_UNKNOWN[hit.rule] : undefined;
  const reply = POLICY_REPLY[unknown ?? `${hit.rule}_${hit.mode}`];
  if (reply instanceof Reply) return reply;
  return reply.with(CLOSES_CONNECTION.has(hit.rule) ? hostname : (hit.text ?? hit.detail));
}

/** Whether the connection ends with this refusal. */
export const endsConnection = (rule: Rule): boolean => CLOSES_CONNECTION.has(rule);
