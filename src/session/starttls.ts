/**
 * TLS of a session: STARTTLS (RFC 3207), TLS from the first byte, and what follows from either. After the handshake the
 * dialog begins anew; nothing that was said before counts.
 */
import { TLS_VERIFY } from '../native.ts';
import { argumentOf } from '../protocol/command.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import type { TlsFacts } from '../protocol/tls-facts.ts';
import { welcome } from './arrival.ts';
import type { Session } from './session.ts';
import { CLOSED, NEW, SECURING } from './state.ts';
import type { SessionView, Verb } from './verb.ts';

export const startTls: Verb<true> = {
  name: 'STARTTLS',
  beforeTls: true,

  check(session, line): true | Reply {
    if (session.secure) return REPLY.already_secure;
    if (session.listener.tls === 'off') return REPLY.not_implemented;
    if (argumentOf(line, 8) !== '') return REPLY.no_argument;
    return session.state.phase === 'new' ? REPLY.hello_first : true;
  },

  admit({ context, policy }): Reply | null {
    const { tlsSlot, settings, port } = context;
    const full = port.handshakes() >= settings.maxHandshakes || !policy.share.fits('handshakes', 1);
    return tlsSlot < 0 || full ? REPLY.tls_unavailable : null;
  },

  apply(session) {
    session.reset();
    session.reply(REPLY.starttls);
    beginTls(session);
  },
};

/** Whether the verb has to wait for TLS here. */
export function lacksTls({ listener, secure }: SessionView, verb: Verb<unknown>): boolean {
  return listener.tls === 'required' && !secure && verb.beforeTls !== true;
}

/** What EHLO says of STARTTLS. */
export function offersStartTls({ listener, secure, context }: SessionView): boolean {
  return !secure && (listener.tls === 'optional' || listener.tls === 'required') && context.tlsSlot >= 0;
}

/** Begins the handshake once what was said is out. */
export function beginTls(session: Session): void {
  const { context, connection, listener } = session;
  const { port, settings } = context;
  session.state = SECURING;
  if (!session.policy.share.take('handshakes', 1)) {
    abandonTls(session, 'too many handshakes of this client');
    return;
  }
  port.secure(connection, context.tlsSlot, listener.verify, '', '', '', settings.handshakeSilenceMs);
  port.deadline(connection, settings.handshakeTimeoutMs);
}

/** The handshake is done: the dialog begins anew (RFC 3207 §4.2). */
export function secured(session: Session, facts: TlsFacts): void {
  if (session.state.phase !== 'securing') return;
  session.policy.share.give('handshakes', 1);
  const { settings, relayPolicy } = session.context;
  const { version, cipher, fingerprint, verifyError, bindings } = facts;
  const verified = fingerprint !== '' && (verifyError === 0 || settings.clientFingerprints.has(fingerprint));
  session.secure = true;
  session.channelBindings = bindings;
  session.user = null;
  session.policy.anonymous();
  session.mayRelay = relayPolicy.isRelayClient(session.client.address);
  session.state = NEW;
  const { user: _, ...client } = session.client;
  session.client = { ...client, helo: '', protocol: 'SMTP', tls: { version, cipher, verified } };
  session.lines.resumed();
  session.commandDeadline();
  if (session.listener.verify === TLS_VERIFY.need && !verified) {
    session.reply(REPLY.client_certificate_refused);
    session.close();
  } else if (session.listener.tls === 'implicit') welcome(session);
}

/** The handshake failed, or did not end in time; the connection ends without a word. */
export function notSecured(session: Session, reason: string): void {
  if (session.state.phase !== 'securing') return;
  session.state = CLOSED;
  session.policy.share.give('handshakes', 1);
  const { id, client, context } = session;
  context.log.info('session.tls_failed', { session_id: id, client_address: client.address, reason });
}

/** Ends a handshake that takes too long, or that a drain does not wait for. */
export function abandonTls(session: Session, reason: string): void {
  notSecured(session, reason);
  session.context.port.close(session.connection, true);
}
