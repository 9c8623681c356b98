/** Makes outcomes of peer replies and faults. What they lead to (retry, expiry, DSN) is decided in settle.ts. */
import { printable } from '../base/printable.ts';
import { DEFERRALS } from '../mail/deferrals.ts';
import type { Job } from '../mail/job.ts';
import {
  type BounceReason,
  DEADLINE_PASSED,
  type DeferralReason,
  type Outcome,
  type PeerReply,
} from '../mail/outcome.ts';
import { type Peer, peerText } from '../mail/peer.ts';
import type { Verdict } from '../mail/verdict.ts';
import type { PeerReplyText } from '../protocol/reply-parser.ts';
import type { Secrets } from './client/secrets.ts';
import type { Fault } from './client/state.ts';

type Deferred = Outcome & { kind: 'deferred' };

const MAX_TEXT = 1000;
const MAX_SHOWN = 80;

/** @param secrets are hidden in the reply. */
export function peerReply(reply: PeerReplyText, peer: Peer, secrets: Secrets): PeerReply {
  const { lines } = reply;
  const joined =
    lines.length === 1
      ? secrets.hide(lines[0] as string)
      : lines.map((line) => secrets.hide(line)).join('\n');
  const text = joined.length > MAX_TEXT ? joined.slice(0, MAX_TEXT) : joined;
  return { code: reply.code, enhanced: reply.enhanced, text: printable(text, ' ', '\n'), peer };
}

/** The beginning of a peer's line, fit to be shown in a detail. */
export function shownLine(line: string, secrets: Secrets): string {
  return JSON.stringify(printable(secrets.hide(line).slice(0, MAX_SHOWN), ' '));
}

export function delivered(reply: PeerReply, dsnPassedOn: boolean): Outcome {
  return { kind: 'delivered', reply, dsnPassedOn };
}

/** A deferral. Its retryAtMs is filled in when the attempt is settled. */
export function deferred(reason: DeferralReason, reply: PeerReply | null, detail: string): Deferred {
  return reply === null
    ? { kind: 'deferred', reason, detail, retryAtMs: 0 }
    : { kind: 'deferred', reason, reply, detail, retryAtMs: 0 };
}

/** The outcome that a fault means: a deferral, unless an operator's rule bounces such a 4xx. */
export function outcomeBy(fault: Fault): Outcome {
  const { reason, reply, detail, peer, verdict } = fault;
  if (reply !== null && reply.code < 500 && verdict?.move === 'bounce')
    return bouncedBy(reply, verdict, detail);
  const outcome = deferred(reason, reply, detail);
  if (reply === null && peer !== undefined) outcome.peer = peer;
  if (verdict !== undefined) outcome.verdict = waiting(verdict);
  return outcome;
}

/** The verdict on what does not bounce, whatever the reply alone would mean. */
export const waiting = (verdict: Verdict): Verdict =>
  verdict.move === 'bounce' ? { ...verdict, move: 'retry_later' } : verdict;

function bouncedBy(reply: PeerReply, verdict: Verdict, detail: string, status = '5.0.0'): Outcome {
  return {
    kind: 'bounced',
    reason: reply.code < 500 ? 'peer_4xx' : 'peer_5xx',
    reply,
    status: reply.enhanced || status,
    detail,
    verdict,
  };
}

const UNKNOWN_4XX: Verdict = { class: 'unknown', scope: 'message', move: 'retry_later', rule: null };
const UNKNOWN_5XX: Verdict = { ...UNKNOWN_4XX, move: 'bounce' };

/** What a refusal means to whoever has no rules. */
export const byFirstDigit = ({ code }: PeerReply): Verdict => (code < 500 ? UNKNOWN_4XX : UNKNOWN_5XX);

/** The outcome of a program error: no message is to blame. @param at the place, as in the log. */
export function internal(at: string): Outcome {
  return deferred('internal_error', null, `an error within the relay (${at}); its log has the details`);
}

export function bounced(reason: BounceReason, status: string, detail: string): Outcome {
  return { kind: 'bounced', reason, status, detail };
}

/** The outcome of a message that should be signed and cannot. */
export function unsigned({ kind, detail }: { kind: 'defer' | 'bounce'; detail: string }): Outcome {
  if (kind === 'defer') return deferred('signing_failed', null, detail);
  return bounced('signing_failed', '5.7.5', detail);
}
/** What is said of a message whose deadline is over. */
export const deadlineText = (deadlineMs: number): string =>
  `its deadline was ${new Date(deadlineMs).toISOString()}`;

/** The outcome of a job whose message has a deadline that is over; else null. @param wall the time of day. */
export function pastDeadline({ attributes, attempts }: Job, wall: () => number): Outcome | null {
  const deadlineMs = attributes?.deadlineMs;
  if (deadlineMs === undefined || wall() < deadlineMs) return null;
  return bounced(DEADLINE_PASSED, '5.4.7', `${deadlineText(deadlineMs)}, after ${attempts} attempts`);
}

/** The command that a reply answers. */
export type Asked = 'greeting' | 'hello' | 'MAIL' | 'RCPT' | 'DATA' | 'content';

/** The state of a session, as far as the meaning of its replies depends on it. */
export interface Standing {
  /** Whether TLS keeps others from reading along. */
  readonly secure: boolean;
  /** Whether it is in the clear although TLS was wanted: the handshake or STARTTLS failed, now or lately. */
  readonly fellBack: boolean;
  /** What the reply of this host means, as the rules for replies say. */
  classify(reply: PeerReply): Verdict;
}

/**
 * What a refusal means. This is the one place where a 4xx or 5xx reply, the command it answers and the state of the
 * session become an outcome. The table in docs/delivery.md says the same.
 */
export function refusalOf(reply: PeerReply, asked: Asked, standing: Standing): Outcome {
  const detail = replyLine(reply);
  const verdict = standing.classify(reply);
  const isPermanent = reply.code >= 500;
  if (isPermanent && insistsOnTls(reply, asked, standing)) {
    const why = standing.fellBack ? 'after TLS with it failed' : 'and it wants TLS';
    const text = `refused in the clear, ${why}: ${detail}`;
    return { ...deferred('tls_failed', reply, text), verdict: waiting(verdict) };
  }
  // That says nothing of a message; what it leads to once every host was asked, `outcomeOf` says.
  if (asked === 'greeting' || asked === 'hello')
    return { ...deferred(isPermanent ? 'peer_refused' : 'peer_4xx', reply, detail), verdict };
  if (verdict.move === 'bounce') return bouncedBy(reply, verdict, detail);
  return { ...deferred(isPermanent ? 'peer_5xx' : 'peer_4xx', reply, detail), verdict };
}

/**
 * Whether the peer may have refused only because the session fell back to the clear. Not if the enhanced code blames an
 * address or a mailbox: then it would have refused over TLS, too.
 */
function insistsOnTls(reply: PeerReply, asked: Asked, { secure, fellBack }: Standing): boolean {
  if (fellBack) return asked !== 'RCPT' || !/^5\.[12]\./.test(reply.enhanced);
  return !secure && reply.code === 530 && /TLS/i.test(reply.text);
}

/** Whether a refusal says that the peer lost track of our commands (bad sequence of commands, or unknown command). */
export function saysOutOfSequence({ code, enhanced }: PeerReply): boolean {
  return code === 503 || code === 500 || (code >= 500 && enhanced === '5.5.1');
}

/**
 * The outcome of an attempt for which no host gave a session.
 * @param fault the one, of all hosts' faults, that leaves most hope.
 * @param bounceRefusals as delivery.greeting_refusal says, for what no rule takes for temporary; a host that answers 521
 *   takes no mail at all (RFC 7504).
 */
export function outcomeOf(fault: Fault, bounceRefusals: boolean): Outcome {
  const { reason, reply, detail, verdict = null } = fault;
  if (reason !== 'peer_refused' || reply === null) return outcomeBy(fault);
  const isOver = reply.code === 521 || (bounceRefusals && (verdict === null || verdict.move === 'bounce'));
  if (!isOver) return outcomeBy(fault);
  return bouncedBy(reply, { ...(verdict ?? UNKNOWN_5XX), move: 'bounce' }, detail, '5.3.2');
}

/**
 * Of the faults of two hosts the one that says more: one that leaves hope before a refusal, one of theirs before one of
 * this machine (which may lack IPv6, for example), one with a reply before one without.
 */
export function moreHopeful(before: Fault | null, fault: Fault, bounceRefusals: boolean): Fault {
  if (before === null) return fault;
  const lost = (one: Fault) => outcomeOf(one, bounceRefusals).kind === 'bounced';
  if (lost(before) !== lost(fault)) return lost(before) ? fault : before;
  const ours = ({ reason }: Fault) => DEFERRALS[reason].whose === 'ours';
  if (ours(before) !== ours(fault)) return ours(before) ? fault : before;
  return fault.reply !== null ? fault : before;
}

/** '451 4.7.1 try later (mx1.example.net [192.0.2.1])' on one line. */
export function replyLine(reply: PeerReply): string {
  const enhanced = reply.enhanced === '' ? '' : ` ${reply.enhanced}`;
  return `${reply.code}${enhanced} ${reply.text.replaceAll('\n', ' ')} (${peerText(reply.peer)})`;
}
