/** What becomes of the attempts on a connection that ends: deferred, bounced, or given back to go on elsewhere. */

import type { Attempt } from '../attempt.ts';
import { outcomeBy } from '../outcome.ts';
import { isOfConnection } from './blame.ts';
import { applyRefusals } from './envelope.ts';
import { endedAmid, MAX_RETURNS, mayReconnect } from './moves.ts';
import type { ClientSession } from './session.ts';
import type { Fault, Transaction } from './state.ts';
import { brokeOff } from './tls.ts';
import { hungUp, saidUsedUp } from './used-up.ts';

/** Faults of a host, after which another one may be asked. */
const BY_HOST: ReadonlySet<string> = new Set(['peer_4xx', 'connection_lost', 'timeout']);

/**
 * Ends the transaction under way by the fault, unless that is the connection's alone.
 * @param at how far it was. 'unknown': the peer may have taken the message, so this attempt asks no other host.
 */
export function abandon(
  session: ClientSession,
  transaction: Transaction,
  fault: Fault,
  at: 'envelope' | 'content' | 'unknown',
): void {
  const { attempt } = transaction;
  if (at === 'envelope' && isOfConnection(session, transaction, fault)) {
    fault.ofConnection = true;
    if (transaction.replies === 0) hungUp(session, fault);
    if (fault.verdict !== undefined) saidUsedUp(session, fault.verdict, fault.reply);
    giveBack(session, transaction, fault);
    return;
  }
  const { verdict } = fault;
  if (
    verdict?.move === 'reconnect_now' &&
    at !== 'unknown' &&
    mayReconnect(session, attempt, verdict, fault.reply)
  ) {
    fault.ofConnection = true;
    putBack(transaction);
    goOn(session, attempt);
    return;
  }
  if (at === 'envelope') endedAmid(session, transaction, fault);
  // We sent too much, whichever host says so.
  if (verdict?.move === 'slow_down') fault.ofConnection = true;
  brokeOff(session, fault, attempt.job.attempts);
  attempt.counted = true;
  applyRefusals(session, transaction);
  const outcome = outcomeBy(fault);
  const elsewhere = at !== 'unknown' && BY_HOST.has(fault.reason);
  const conclude = (positions: readonly number[]) =>
    elsewhere ? attempt.apply(positions, outcome) : attempt.decide(positions, outcome);
  conclude(transaction.accepted);
  if (transaction.awaits !== 'data') {
    // After that, recipients that were called too many wait in `todo` for another transaction.
    if (transaction.tooMany !== null) conclude(transaction.tooMany);
    const { from, count, rcptReplied } = transaction;
    conclude(attempt.todo.slice(from + rcptReplied, from + count));
  }
  continueElsewhere(session, attempt, fault);
}

/** Gives back what was not sent, or not wholly. */
export function giveBack(session: ClientSession, transaction: Transaction, fault: Fault): void {
  putBack(transaction);
  continueElsewhere(session, transaction.attempt, fault);
}

function putBack({ attempt, from, count, replies }: Transaction): void {
  if (replies === 0) attempt.cursor = from;
  else attempt.again(attempt.todo.slice(from, from + count));
}

function continueElsewhere(session: ClientSession, attempt: Attempt, fault: Fault): void {
  if (!attempt.over && attempt.returns++ >= MAX_RETURNS) {
    attempt.counted = true;
    attempt.decideRest(outcomeBy(fault));
  }
  goOn(session, attempt);
}

function goOn(session: ClientSession, attempt: Attempt): void {
  if (attempt.over) session.owner.finished(attempt, session);
  else session.owner.returned(attempt);
}
