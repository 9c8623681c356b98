/**
 * When a peer takes no more messages on a connection: it says so, or closes it between messages. Only what comes right after a
 * message says something of their number; a connection that stood idle ends for the time it did.
 */
import type { PeerReply } from '../../mail/outcome.ts';
import type { Verdict } from '../../mail/verdict.ts';
import type { ClientSession } from './session.ts';
import type { Fault } from './state.ts';

export interface UsedUp {
  /** '421 4.7.0 text'; '' where it closed the connection without a word. */
  reply: string;
  /** Whether it said that the number of messages is the reason. */
  isSaid: boolean;
}

/** A peer that counts messages answers, or closes, at once after the last one: a round trip, and some time to think. */
const AT_ONCE_MS = 500;
/** Such a reply is about the time that the connection has been open, or about recipients. */
const OF_SOMETHING_ELSE = /expired|time|recipient|rcpt/i;
const MAX_REPLY = 300;

/** The peer ended the connection between two messages. @param fault null: it closed it without a word. */
export function hungUp(session: ClientSession, fault: Fault | null): void {
  const { accepted, acceptedAtMs, owner } = session;
  if (accepted === 0 || owner.now() - acceptedAtMs > AT_ONCE_MS || fault?.confused === true) return;
  const { reply = null, reason = 'connection_lost', verdict } = fault ?? {};
  if (reply === null) {
    if (reason === 'connection_lost') session.usedUp = { reply: '', isSaid: false };
    // Other refusals say why they came.
  } else if (verdict === undefined || verdict.class === 'unknown')
    session.usedUp = { reply: textOf(reply), isSaid: false };
  else saidUsedUp(session, verdict, reply);
}

/** The peer asks for a new connection. */
export function saidUsedUp(session: ClientSession, verdict: Verdict, reply: PeerReply | null): void {
  if (verdict.class !== 'per_connection_limit' || reply === null || session.accepted === 0) return;
  session.usedUp = { reply: textOf(reply), isSaid: !OF_SOMETHING_ELSE.test(reply.text) };
}

/** '421 4.7.0 text' on one line. */
export function textOf({ code, enhanced, text }: PeerReply): string {
  return `${code}${enhanced === '' ? '' : ` ${enhanced}`} ${text.replaceAll('\n', ' ')}`.slice(0, MAX_REPLY);
}
