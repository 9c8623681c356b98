/** From a hit to the reply that refuses. */
import { POLICY_REPLY, type PolicyReason } from '../protocol/policy-reply.ts';
import { Reply } from '../protocol/reply.ts';
import type { Hit, Rule } from './part.ts';

/** Rules that refuse the connection: their text names us, and the connection is closed. */
const NAMES_US: ReadonlySet<Rule> = new Set([
  'ban',
  'total',
  'perIp',
  'perNetwork',
  'connectionRate',
  'commandRate',
  'earlyTalker',
  'tarpit',
]);

const UNKNOWN: Partial<Record<Rule, PolicyReason>> = {
  reverseDns: 'reverseDnsUnknown',
  helo: 'heloUnknown',
  dnsbl: 'dnsblUnknown',
  senderDomain: 'senderDomainUnknown',
  senderAddress: 'addressUnknown',
  recipientAddress: 'addressUnknown',
};

/** null when the hit is only logged or tagged. */
export function policyReply(hit: Hit, hostname: string): Reply | null {
  if (hit.mode !== 'defer' && hit.mode !== 'reject') return null;
  const unknown = hit.unknown === true ? UNKNOWN[hit.rule] : undefined;
  const reply = POLICY_REPLY[unknown ?? `${hit.rule}${hit.mode === 'defer' ? 'Defer' : 'Reject'}`];
  if (reply instanceof Reply) return reply;
  return reply.with(NAMES_US.has(hit.rule) ? hostname : (hit.text ?? hit.detail));
}

/** Whether the connection ends with this refusal. */
export const endsConnection = (rule: Rule): boolean => NAMES_US.has(rule);
