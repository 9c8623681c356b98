/**
 * What a refusal moves beside the outcomes of its recipients: the attempt goes on at once on a new connection
 * (reconnect_now) or in smaller transactions (split_now), or the session takes no more work (next_host). Each is bounded:
 * an attempt changes its connection a few times at most, and a transaction of one recipient cannot be split.
 */
import type { Outcome, PeerReply } from '../../mail/outcome.ts';
import type { Verdict } from '../../mail/verdict.ts';
import type { Attempt } from '../attempt.ts';
import { deferred, replyLine, waiting } from '../outcome.ts';
import type { ClientSession } from './session.ts';
import type { Fault, Transaction } from './state.ts';
import { saidUsedUp } from './used-up.ts';

/** An attempt that was put back this often is deferred instead. */
export const MAX_RETURNS = 4;

/** What becomes of a session whatever the refusal answers. */
export function heed(session: ClientSession, verdict: Verdict): void {
  if (verdict.move === 'slow_down' || verdict.class === 'rate_limit' || verdict.class === 'connection_limit')
    session.owner.slowDown(session, verdict);
  // What waits must not be offered to this host again.
  else if (verdict.move === 'next_host' && session.owner.hasOthers(session)) session.retiring = true;
}

/**
 * MAIL, DATA or the content was refused for these recipients: they wait for another transaction of this attempt, or get
 * the outcome.
 */
export function refuse(
  session: ClientSession,
  { attempt }: Transaction,
  positions: readonly number[],
  outcome: Outcome,
): void {
  const { verdict, reply = null } = outcome.kind === 'deferred' ? outcome : {};
  if (verdict?.move === 'reconnect_now' && mayReconnect(session, attempt, verdict, reply)) {
    attempt.todo.push(...positions);
    return;
  }
  if (verdict?.move === 'split_now') {
    if (split(session, attempt, positions)) return;
    // The host says so of a single recipient, too: it would of each of the others.
    attempt.applyWaiting(outcome);
  }
  attempt.apply(positions, outcome);
}

/** Recipients that the host did not take in this transaction, though it may in another. */
export function refuseMany(
  session: ClientSession,
  { attempt, accepted, count }: Transaction,
  positions: readonly number[],
  reply: PeerReply,
): void {
  const verdict = waiting(session.classify(reply));
  const isUsedUp = verdict.move === 'reconnect_now';
  if (accepted.length > 0) {
    // It goes forward, so that no bound is needed.
    if (isUsedUp) {
      session.retiring = true;
      saidUsedUp(session, verdict, reply);
    } else if (saysTooMany(reply)) session.owner.recipientLimit = accepted.length;
    attempt.todo.push(...positions);
    return;
  }
  // Where it took some before, and now not one, it may count them over the whole connection.
  if ((isUsedUp || session.delivers) && mayReconnect(session, attempt, verdict, reply)) {
    attempt.todo.push(...positions);
    return;
  }
  if (!isUsedUp && split(session, attempt, positions)) return;
  const outcome: Outcome = { ...deferred('peer_4xx', reply, replyLine(reply)), verdict };
  if (!isUsedUp && count === 1) attempt.applyWaiting(outcome);
  attempt.apply(positions, outcome);
}

/** Whether a reply to RCPT says that the recipient is for another transaction. */
export function isForAnother(session: ClientSession, reply: PeerReply): boolean {
  if (saysTooMany(reply)) return true;
  const { move } = session.classify(reply);
  return move === 'split_now' || move === 'reconnect_now';
}

/** Whether the peer says 'too many recipients': 452 4.5.3, or 552, which RFC 5321 §4.5.3.1.10 says to read as such. */
function saysTooMany(reply: PeerReply): boolean {
  if (reply.code !== 452 && reply.code !== 552) return false;
  if (reply.enhanced !== '') return reply.enhanced.endsWith('.5.3');
  return /too many/i.test(reply.text);
}

/**
 * The peer ended the connection amid the recipients of a transaction, some of which it took: it may do so whenever there are as
 * many, so that later transactions have fewer.
 */
export function endedAmid(
  { owner }: ClientSession,
  { awaits, accepted, count }: Transaction,
  fault: Fault,
): void {
  if (awaits !== 'rcpt' || accepted.length === 0) return;
  if (fault.reason !== 'connection_lost' && fault.reply?.code !== 421) return;
  owner.recipientLimit = Math.min(owner.recipientLimit, Math.max(accepted.length, count >> 1));
}

/** Puts the recipients back for transactions of half as many. @returns false when there is one alone. */
function split({ owner }: ClientSession, attempt: Attempt, positions: readonly number[]): boolean {
  if (positions.length < 2) return false;
  owner.recipientLimit = Math.min(owner.recipientLimit, Math.floor(positions.length / 2));
  attempt.todo.push(...positions);
  return true;
}

/**
 * Whether the attempt may go on at once on a new connection. Only a connection that served before can be used up; one in
 * the clear, because TLS failed, is given up for one with TLS, once. The session then takes no more work.
 */
export function mayReconnect(
  session: ClientSession,
  attempt: Attempt,
  verdict: Verdict,
  reply: PeerReply | null,
): boolean {
  const wantsTls = verdict.class === 'tls_required' && !session.secure;
  const may = wantsTls
    ? session.fellBack && attempt.returns === 0
    : session.proven && session.transactions > 1 && attempt.returns < MAX_RETURNS;
  if (!may) return false;
  if (wantsTls) session.owner.tls.broken.delete(session.host);
  saidUsedUp(session, verdict, reply);
  attempt.returns++;
  session.retiring = true;
  return true;
}
