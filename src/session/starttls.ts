/** STARTTLS (RFC 3207): from here on the connection speaks TLS, and the dialog begins anew. */
import { argumentOf } from '../protocol/command.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import type { Verb } from './verb.ts';

export const startTls: Verb<true> = {
  name: 'STARTTLS',
  beforeTls: true,

  check(session, line): true | Reply {
    if (session.secure) return REPLY.alreadySecure;
    if (session.listener.tls === 'off') return REPLY.notImplemented;
    if (argumentOf(line, 8) !== '') return REPLY.noArgument;
    return session.state.phase === 'new' ? REPLY.helloFirst : true;
  },

  admit({ context }): Reply | null {
    const { tlsSlot, settings, port } = context;
    return tlsSlot < 0 || port.handshakes() >= settings.maxHandshakes ? REPLY.tlsUnavailable : null;
  },

  apply(session) {
    session.reset();
    session.reply(REPLY.startTls);
    session.startTls();
  },
};
