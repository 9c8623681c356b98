/** Which outcomes put an address on the suppression list: the operator's rules for what hosts say of a recipient. */
import type { Config } from '../config/schema.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import {
  countKey,
  domainOfTarget,
  MAX_DETAIL_LENGTH,
  type SuppressionOrder,
  suppressionTarget,
} from '../mail/suppression.ts';
import { SCOPE_ALL } from '../mail/suppression-scope.ts';
import type { ReplyClass } from '../mail/verdict.ts';

type Rules = Config['suppression']['rules'];

/**
 * What the fates of an attempt call for. Only what is said of the recipient counts, and only as a final fate: a host that blocks
 * us says nothing of its users. Reports (with the null reverse-path) teach nothing, because strangers choose where they
 * go; nor do domains that this relay takes mail for, whose hosts are the operator's own.
 * @param isOurs whether a domain is one of relay_domains.
 */
export function suppressionOrders(
  result: AttemptResult,
  rules: Rules,
  isOurs: (domain: string) => boolean,
  nowMs: number,
): SuppressionOrder[] {
  if (result.reversePath === '') return [];
  const orders: SuppressionOrder[] = [];
  for (const { seqs, outcome } of result.groups) {
    const rule = ruleOf(outcome, rules, nowMs);
    if (rule === null || outcome.kind !== 'bounced') continue;
    for (const seq of seqs) {
      const address = result.recipients.find((one) => one.seq === seq)?.address ?? '';
      const target = suppressionTarget(address);
      if (target === null || isOurs(domainOfTarget(target))) continue;
      orders.push({
        tenant: result.attributes?.tenant ?? '',
        target,
        scope: SCOPE_ALL,
        source: 'reply',
        detail: outcome.detail.slice(0, MAX_DETAIL_LENGTH),
        about: countKey(result.queueId, seq),
        ...rule,
      });
    }
  }
  return orders;
}

function ruleOf(outcome: Outcome, rules: Rules, nowMs: number): ClassOrder | null {
  if (outcome.kind !== 'bounced' || outcome.verdict?.scope !== 'recipient') return null;
  return forClass(outcome.verdict.class, rules, nowMs);
}

type ClassOrder = Pick<SuppressionOrder, 'reason' | 'createdAtMs' | 'expiresAtMs' | 'after' | 'withinMs'>;

/** What a class that hosts give to a recipient calls for; null: nothing. */
export function forClass(kind: ReplyClass, rules: Rules, nowMs: number): ClassOrder | null {
  if (!Object.hasOwn(rules, kind)) return null;
  const rule = rules[kind as keyof Rules];
  if (rule.after_messages === 0) return null;
  return {
    reason: kind,
    createdAtMs: nowMs,
    expiresAtMs: rule.for_ms === 0 ? null : nowMs + rule.for_ms,
    after: rule.after_messages,
    withinMs: rule.within_ms,
  };
}
