/**
 * What a report comes to: events, and entries of the suppression list. A report is believed about the one recipient whose token it
 * brings: by the token, mail went to that address, and whoever has the token has that mail. What it says of others, and
 * reports without a token, make an event and no entry. Pure.
 */
import type { Config } from '../config/schema.ts';
import { MAX_ATTRIBUTE_LENGTH } from '../mail/attributes.ts';
import type { ReturnPaths, ReturnToken } from '../mail/return-path.ts';
import {
  countKey,
  domainOfTarget,
  MAX_DETAIL_LENGTH,
  type SuppressionOrder,
  suppressionTarget,
} from '../mail/suppression.ts';
import { SCOPE_ALL } from '../mail/suppression-scope.ts';
import type { AsyncBouncedEvent, ComplainedEvent } from '../report/event-types.ts';
import type { ReadReport } from './report-worker.ts';
import type { Failure } from './reported-failure.ts';
import { forClass } from './suppression-rules.ts';

type About = Omit<AsyncBouncedEvent, 'time' | 'node'> | Omit<ComplainedEvent, 'time' | 'node'>;

export interface Fates {
  events: About[];
  orders: SuppressionOrder[];
  /** Complaints that were taken back. */
  pardons: { tenant: string; target: string }[];
}

export interface FatesSetup {
  paths: ReturnPaths;
  rules: Config['suppression']['rules'];
  /** Whether a domain is one of relay_domains: its hosts are the operator's own. */
  isOurs(domain: string): boolean;
  nowMs: number;
}

/** @param local with the token that it came to; null: to the address for complaints. */
export function fatesOf({ report, verdicts }: ReadReport, local: string | null, setup: FatesSetup): Fates {
  const fates: Fates = { events: [], orders: [], pardons: [] };
  const { original, kind } = report;
  const token = local === null ? tokenIn(original.tokens, setup.paths) : setup.paths.read(local);
  const { tenant, campaign } = attributesOf(original.feedbackId);
  const about = {
    queue_id: token?.queueId ?? '',
    matched_by: matchedBy(token, original),
    ...(token === null ? {} : { recipient_index: token.index }),
    ...said('tenant', token === null || token.tenant === null ? tenant : token.tenant),
    ...said('campaign', campaign),
    ...said('message_id', original.messageId),
    ...said('feedback_id', original.feedbackId),
  };
  const list = about.tenant ?? '';
  const named = (addresses: readonly string[]): string => addresses.find((one) => token?.isFor(one)) ?? '';
  switch (kind) {
    case 'failed':
      report.failures.forEach((failure, i) => {
        const recipient = named(failure.addresses);
        const verdict = verdicts[i];
        const order =
          recipient === '' || verdict?.scope !== 'recipient'
            ? null
            : forClass(verdict.class, setup.rules, setup.nowMs);
        const target = order === null ? null : suppressionTarget(recipient);
        const detail = detailOf(failure);
        if (order !== null && target !== null && !setup.isOurs(domainOfTarget(target)))
          fates.orders.push({
            tenant: list,
            target,
            scope: SCOPE_ALL,
            source: 'report',
            detail,
            about: keyOf(token),
            ...order,
          });
        fates.events.push({
          type: 'async_bounced',
          ...about,
          ...said('recipient', recipient || failure.addresses[0] || ''),
          proven: recipient !== '',
          status: failure.enhanced,
          reply: detail,
          ...said('peer_host', failure.host),
          ...(verdict === undefined ? {} : { class: verdict.class, scope: verdict.scope }),
          ...(verdict?.rule ? { rule: verdict.rule } : {}),
        });
      });
      break;
    case 'complaint': {
      const recipient = named(report.addresses);
      const target = suppressionTarget(recipient);
      if (recipient !== '' && target !== null)
        fates.orders.push({
          tenant: list,
          target,
          scope: SCOPE_ALL,
          reason: 'complaint',
          source: 'complaint',
          detail: report.type,
          createdAtMs: setup.nowMs,
          expiresAtMs: null,
          after: 1,
          withinMs: 0,
          about: keyOf(token),
        });
      fates.events.push({
        type: 'complained',
        ...about,
        ...said('recipient', recipient || report.addresses[0] || ''),
        proven: recipient !== '',
        feedback: report.type,
      });
      break;
    }
    case 'not_spam': {
      const target = suppressionTarget(named(report.addresses));
      if (target !== null) fates.pardons.push({ tenant: list, target });
      break;
    }
    case 'unparsed':
      // Without a token anybody can send any text to the address for complaints.
      if (token !== null)
        fates.events.push({ type: 'async_bounced', ...about, proven: false, class: 'unparsed' });
  }
  return fates;
}

const keyOf = (token: ReturnToken | null): string =>
  token === null ? '' : countKey(token.queueId, token.index);

function tokenIn(addresses: readonly string[], paths: ReturnPaths): ReturnToken | null {
  for (const address of addresses) {
    const token = paths.readAddress(address);
    if (token !== null) return token;
  }
  return null;
}

function matchedBy(
  token: ReturnToken | null,
  { messageId, feedbackId }: ReadReport['report']['original'],
): AsyncBouncedEvent['matched_by'] {
  if (token !== null) return 'token';
  if (messageId !== '') return 'message_id';
  return feedbackId === '' ? 'nothing' : 'feedback_id';
}

/** Of a Feedback-ID as we write it: campaign:tenant:class:sender. */
function attributesOf(feedbackId: string): { campaign: string; tenant: string } {
  const [campaign = '', tenant = '', ...rest] = feedbackId.split(':');
  const isOurs =
    rest.length === 2 && campaign.length <= MAX_ATTRIBUTE_LENGTH && tenant.length <= MAX_ATTRIBUTE_LENGTH;
  return isOurs ? { campaign, tenant } : { campaign: '', tenant: '' };
}

const detailOf = ({ code, enhanced, text }: Failure): string =>
  [code, enhanced, text]
    .filter((part) => part !== '')
    .join(' ')
    .slice(0, MAX_DETAIL_LENGTH);

const said = <Name extends string>(name: Name, value: string): { [name in Name]?: string } =>
  (value === '' ? {} : { [name]: value }) as { [name in Name]?: string };
