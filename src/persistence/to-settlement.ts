/** Turns what a delivery thread reports of a job into what the database writes, in one exhaustive switch. */
import type { SettleGroup, Settlement } from '../database/database.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { Outcome, PeerReply } from '../mail/outcome.ts';
import { peerText } from '../mail/peer.ts';
import { HELD_BY_RULE } from '../mail/rule-hold.ts';
import type { SettleItem } from './entry.ts';

const MAX_DETAIL = 500;

/** '451 4.7.1 try later (mx1.example.net [192.0.2.1])' */
export function replyText(reply: PeerReply): string {
  const enhanced = reply.enhanced === '' ? '' : `${reply.enhanced} `;
  return `${reply.code} ${enhanced}${reply.text} (${peerText(reply.peer)})`.slice(0, MAX_DETAIL);
}

function groupOf(seqs: number[], outcome: Outcome): SettleGroup {
  switch (outcome.kind) {
    case 'delivered':
      return { seqs, kind: 'delivered', reason: '', detail: replyText(outcome.reply) };
    case 'deferred':
    case 'bounced': {
      const detail = outcome.detail !== '' || !outcome.reply ? outcome.detail : replyText(outcome.reply);
      return { seqs, kind: outcome.kind, reason: outcome.reason, detail: detail.slice(0, MAX_DETAIL) };
    }
    default:
      return outcome satisfies never;
  }
}

/**
 * What the database writes of a result. The row is due again when the first of its deferred recipients is; with those that a
 * rule holds alone, never.
 */
export function toSettlement(result: AttemptResult): Settlement {
  let retryAtMs: number | null = null;
  const groups: SettleGroup[] = [];
  for (const { seqs, outcome } of result.groups) {
    groups.push(groupOf(seqs, outcome));
    if (outcome.kind === 'deferred' && outcome.reason !== HELD_BY_RULE)
      retryAtMs = retryAtMs === null ? outcome.retryAtMs : Math.min(retryAtMs, outcome.retryAtMs);
  }
  return {
    queueId: result.queueId,
    destination: result.destination,
    fence: result.fence,
    attempts: result.attempts,
    groups,
    retryAtMs,
    delayNotified: result.delayNotified,
  };
}

/** The result as an item of the next commit: with its settlement and the DSNs it calls for. */
export function toSettleItem(result: AttemptResult): SettleItem {
  const dsns = result.dsns.map((message) => ({ message, plan: [], thread: -1, ticket: -1 }));
  return { settlement: toSettlement(result), result, dsns };
}
