/** The small verbs, RSET, NOOP, VRFY, EXPN, HELP, QUIT, and those that are known but not offered. */
import { parseMailbox } from '../protocol/address.ts';
import { argumentOf } from '../protocol/command.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import { isTaken } from './rcpt.ts';
import { authMissing } from './rights.ts';
import type { SessionView, Verb } from './verb.ts';

function withoutArgument(_session: unknown, line: string): true | Reply {
  return argumentOf(line, 4) === '' ? true : REPLY.no_argument;
}

export const rset: Verb<true> = {
  name: 'RSET',
  check: withoutArgument,
  apply(session) {
    if (session.state.phase !== 'new') session.reset();
    session.reply(REPLY.ok);
  },
};

export const noop: Verb<true> = {
  name: 'NOOP',
  beforeTls: true,
  check: () => true,
  apply(session) {
    session.reply(REPLY.ok);
  },
};

export const help: Verb<true> = {
  name: 'HELP',
  check: () => true,
  apply(session) {
    session.reply(REPLY.help);
  },
};

export const quit: Verb<true> = {
  name: 'QUIT',
  beforeTls: true,
  check: withoutArgument,
  apply(session) {
    session.reply(REPLY.bye);
  },
};

/** RFC 5321 §3.5.3: a relay cannot say whether a mailbox exists; with smtp.vrfy it says what it can. */
export const vrfy: Verb<never> = {
  name: 'VRFY',
  check: (session, line) => authMissing(session) ?? verify(session, argumentOf(line, 4)),
  apply() {},
};

function verify(session: SessionView, argument: string): Reply {
  if (argument === '') return REPLY.vrfy_syntax;
  if (!session.context.settings.vrfy) return REPLY.vrfy_any;
  const address = argument.replace(/ SMTPUTF8$/i, '').replace(/^<(.*)>$/, '$1');
  const mailbox = parseMailbox(address, session.context.settings.strictAddresses);
  if (mailbox === null || mailbox.address === '') return REPLY.recipient_syntax;
  return isTaken(session, mailbox) ? REPLY.vrfy_relayed : REPLY.relay_denied;
}

/** There are no lists here to expand. */
export const expn: Verb<never> = {
  name: 'EXPN',
  check: (session, line) =>
    authMissing(session) ?? (argumentOf(line, 4) === '' ? REPLY.expn_syntax : REPLY.not_implemented),
  apply() {},
};

/** Commands of other documents that are known and not offered (502 rather than 500, RFC 5321 §4.2.4). */
export const notOffered: Verb<never>[] = ['TURN', 'ETRN', 'ATRN', 'SEND', 'SOML', 'SAML'].map((name) => ({
  name,
  check: () => REPLY.not_implemented,
  apply() {},
}));
