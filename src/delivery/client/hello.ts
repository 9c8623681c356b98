/** Greeting, EHLO and the fallback to HELO (RFC 5321 §3.1, §3.2). */
import type { PeerReply } from '../../mail/outcome.ts';
import { authenticate } from './auth.ts';
import { isCareful } from './blame.ts';
import { HELO_CAPABILITIES, parseCapabilities } from './capabilities.ts';
import type { ClientSession } from './session.ts';
import { EHLO, HELO } from './state.ts';
import { negotiate } from './tls.ts';

export function greetingReply(session: ClientSession, reply: PeerReply): void {
  if (reply.code < 300) sayHello(session, 'EHLO');
  else refuse(session, reply, 'greeting');
}

export function helloReply(
  session: ClientSession,
  verb: 'EHLO' | 'HELO',
  reply: PeerReply,
  lines: readonly string[],
): void {
  if (reply.code < 300) {
    session.offered = verb === 'EHLO' ? parseCapabilities(lines) : { ...HELO_CAPABILITIES };
    if (isCareful(session)) session.offered.pipelining = false;
    if (!negotiate(session)) proceed(session);
  } else if (verb === 'EHLO' && reply.code >= 500) {
    // RFC 5321 §3.2: a server that does not know EHLO may know HELO.
    sayHello(session, 'HELO');
  } else refuse(session, reply, 'hello');
}

/** Hello and TLS are done: authenticates where that is wanted, then establishes the session. */
export function proceed(session: ClientSession): void {
  if (session.host.auth === undefined) session.established();
  else authenticate(session, session.host.auth);
}

export function sayHello(session: ClientSession, verb: 'EHLO' | 'HELO'): void {
  session.state = verb === 'EHLO' ? EHLO : HELO;
  session.port.sendLatin1(session.id, `${verb} ${session.owner.ehloName}\r\n`);
  session.wroteTurn = session.owner.turn;
  session.port.deadline(session.id, session.owner.rules.command_timeout_ms);
}

function refuse(session: ClientSession, reply: PeerReply, asked: 'greeting' | 'hello'): void {
  if (reply.code < 400) {
    session.outOfTurn(reply, asked === 'greeting' ? 'in its greeting' : 'to EHLO or HELO');
    return;
  }
  const outcome = session.judge(reply, asked);
  // A refused session bounces no mail by itself: first every other host is asked.
  if (outcome.kind !== 'deferred') return;
  const { reason, detail, verdict } = outcome;
  session.fail({ reason, reply, detail, ...(verdict && { verdict }) });
}
