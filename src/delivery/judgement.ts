/**
 * What the rules of `egress.routing` say of an attempt: who of its recipients goes which way, and who does not go. Recipients
 * of one entry share a domain, but for those of a smarthost: there each domain has a verdict of its own.
 */
import { domainOf } from '../base/domain.ts';
import type { Egress } from '../egress/egress.ts';
import type { Decision, Routed } from '../egress/routing.ts';
import type { MailClass } from '../mail/attributes.ts';
import { domainOfReport, SMARTHOST } from '../mail/destination.ts';
import type { Job } from '../mail/job.ts';
import type { Outcome } from '../mail/outcome.ts';
import { HELD_BY_RULE, rulesIn, ruleText } from '../mail/rule-hold.ts';
import type { Attempt } from './attempt.ts';
import { bounced, deferred } from './outcome.ts';

export interface Judgement {
  /** Key of the next hop that a rule names; '': where its destination leads. */
  way: string;
  pool: string;
  /** What the rules make of its class; '' for none. */
  class: MailClass | '';
  /** Recipients that do not go now, with what becomes of them. */
  ended: { positions: readonly number[]; outcome: Outcome }[];
}

const NONE: readonly string[] = [];

export function judgementOf(egress: Egress, attempt: Attempt, provider: string): Judgement {
  const { job } = attempt;
  const released = job.operatorText === undefined ? NONE : rulesIn(job.operatorText);
  const decisionOn = (domain: string): Decision => egress.decide(routedOf(job, domain, provider), released);
  if (job.destination !== SMARTHOST)
    return joined([[decisionOn(domainOfReport(job.destination) ?? job.destination), attempt.todo]]);
  const byDomain = Map.groupBy(attempt.todo, (position) =>
    domainOf((job.recipients[position] as { address: string }).address),
  );
  return joined([...byDomain].map(([domain, positions]) => [decisionOn(domain), positions]));
}

export function routedOf(
  { attributes, reversePath }: Job,
  recipientDomain: string,
  provider: string,
): Routed {
  return {
    tenant: attributes?.tenant ?? '',
    campaign: attributes?.campaign ?? '',
    class: attributes?.class ?? '',
    pool: attributes?.pool ?? '',
    fromDomain: domainOf(reversePath),
    recipientDomain,
    provider,
  };
}

/** One way at a time: recipients that go another one come again at once. */
function joined(parts: [Decision, readonly number[]][]): Judgement {
  const ended: Judgement['ended'] = [];
  let first: Decision | null = null;
  for (const [decision, positions] of parts) {
    const { result, value } = decision;
    if (result === 'hold') ended.push({ positions, outcome: deferred(HELD_BY_RULE, null, ruleText(value)) });
    else if (result === 'discard')
      ended.push({ positions, outcome: bounced('discarded', '5.7.1', ruleText(value)) });
    else if (first === null) first = decision;
    else if (wayOf(first) !== wayOf(decision))
      ended.push({
        positions,
        outcome: deferred(
          'hand_off_released',
          null,
          'by the rules it goes another way than others of its message',
        ),
      });
  }
  return {
    way: first === null ? '' : wayOf(first),
    pool: first?.result === 'pool' ? first.value : '',
    class: (first?.class ?? '') as MailClass | '',
    ended,
  };
}

const wayOf = ({ result, value }: Decision): string => (result === 'route' ? value : '');
