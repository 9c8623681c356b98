/** HELO and EHLO (RFC 5321 §4.1.1.1): name the client and forget any open transaction. */
import { isHeloName } from '../protocol/address.ts';
import { argumentOf } from '../protocol/command.ts';
import { REPLY, type Reply, withKeywords } from '../protocol/reply.ts';
import { transmissionType } from '../protocol/trace.ts';
import { authOffer } from './rights.ts';
import type { Session } from './session.ts';
import { offersStartTls } from './starttls.ts';
import type { SessionView, Verb } from './verb.ts';
import { toldKeywords } from './xclient.ts';

function checkName({ context }: SessionView, line: string): string | Reply {
  const name = argumentOf(line, 4);
  return isHeloName(name, context.settings.strictAddresses) ? name : REPLY.helo_syntax;
}

function greet(session: Session, helo: string, esmtp: boolean): void {
  session.reset();
  // A new object: messages already submitted keep the one that was true for them.
  const protocol = transmissionType(esmtp, {
    secure: session.secure,
    authenticated: session.user !== null,
    utf8: false,
  });
  session.client = { ...session.client, helo, protocol };
}

export const helo: Verb<string> = {
  name: 'HELO',
  check: checkName,
  apply(session, name) {
    greet(session, name, false);
    session.reply(session.context.settings.hello);
  },
};

export const ehlo: Verb<string> = {
  name: 'EHLO',
  beforeTls: true,
  check: checkName,
  apply(session, name) {
    greet(session, name, true);
    const { ehlo: plain, ehloWithStartTls } = session.context.settings;
    const ehlo = (offersStartTls(session) ? ehloWithStartTls : plain)[authOffer(session)];
    const more = toldKeywords(session);
    session.reply(more.length === 0 ? ehlo : withKeywords(ehlo, more));
  },
};
