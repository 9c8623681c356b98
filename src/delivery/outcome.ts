/** Making outcomes of peer replies and faults. What they lead to (retry, expiry, DSN) is decided in settle.ts. */
import type { BounceReason, DeferralReason, Outcome, PeerReply } from '../mail/outcome.ts';
import type { PeerReplyText } from '../protocol/reply-parser.ts';
import type { Fault } from './client/state.ts';

const MAX_TEXT = 1000;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a peer must not bring into logs and DSNs.
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f]/g;

/** @param peer 'mx1.example.net [192.0.2.1]' */
export function peerReply(reply: PeerReplyText, peer: string): PeerReply {
  const joined = reply.lines.length === 1 ? (reply.lines[0] as string) : reply.lines.join('\n');
  const text = joined.length > MAX_TEXT ? joined.slice(0, MAX_TEXT) : joined;
  return { code: reply.code, enhanced: reply.enhanced, text: text.replace(CONTROL, ' '), peer };
}

/** What a peer wrote, fit for a detail. */
export function shownLine(line: string): string {
  return JSON.stringify(line.replace(CONTROL, ' '));
}

export function delivered(reply: PeerReply, dsnPassedOn: boolean): Outcome {
  return { kind: 'delivered', reply, dsnPassedOn };
}

/** retryAtMs is filled in when the attempt is settled. */
export function deferred(reason: DeferralReason, reply: PeerReply | null, detail: string): Outcome {
  return reply === null
    ? { kind: 'deferred', reason, detail, retryAtMs: 0 }
    : { kind: 'deferred', reason, reply, detail, retryAtMs: 0 };
}

/** An error of ours: nobody's message is to blame. @param at where, as the log has it. */
export function internal(at: string): Outcome {
  return deferred('internal-error', null, `an error within the relay (${at}); its log has the details`);
}

export function bounced(reason: BounceReason, status: string, detail: string): Outcome {
  return { kind: 'bounced', reason, status, detail };
}

/** What a 4xx or 5xx reply to MAIL, RCPT, DATA or the content means for its recipients. */
export function refusedBy(reply: PeerReply): Outcome {
  const detail = replyLine(reply);
  if (reply.code < 500) return { kind: 'deferred', reason: 'peer-4xx', reply, detail, retryAtMs: 0 };
  return { kind: 'bounced', reason: 'peer-5xx', reply, status: reply.enhanced || '5.0.0', detail };
}

/** What a fault before any transaction means for the attempt that asked for the connection. */
export function outcomeOf({ reason, reply, detail }: Fault): Outcome {
  return reason === 'peer-4xx' && reply !== null ? refusedBy(reply) : deferred(reason, reply, detail);
}

/** '451 4.7.1 try later (mx1.example.net [192.0.2.1])' on one line. */
export function replyLine(reply: PeerReply): string {
  const enhanced = reply.enhanced === '' ? '' : ` ${reply.enhanced}`;
  return `${reply.code}${enhanced} ${reply.text.replaceAll('\n', ' ')} (${reply.peer})`;
}
