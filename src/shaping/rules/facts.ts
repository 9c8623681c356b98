/** Results of attempts as what rules count: one fact for each answer of a peer, however many recipients share it. */
import type { AttemptResult } from '../../mail/job.ts';
import { domainIn } from '../message-gates.ts';
import type { Fact } from './matcher.ts';

/** @param withDelivered false: only refusals are wanted. */
export function factsOf(result: AttemptResult, site: string, withDelivered: boolean, nowMs: number): Fact[] {
  const facts: Fact[] = [];
  for (const { outcome } of result.groups) {
    const isDelivered = outcome.kind === 'delivered';
    const { reply } = outcome;
    if (reply === undefined || (isDelivered && !withDelivered)) continue;
    const { code, enhanced, text } = reply;
    const verdict = outcome.kind === 'delivered' ? undefined : outcome.verdict;
    facts.push({
      atMs: nowMs,
      isDelivered,
      code,
      enhanced,
      reply: `${code}${enhanced === '' ? '' : ` ${enhanced}`} ${text.replaceAll('\n', ' ')}`,
      class: verdict?.class ?? '',
      scope: verdict?.scope ?? '',
      site,
      source: result.source ?? '',
      tenant: result.attributes?.tenant ?? '',
      campaign: result.attributes?.campaign ?? '',
      fromDomain: domainIn(result.reversePath),
      messages: 1,
    });
  }
  return facts;
}
