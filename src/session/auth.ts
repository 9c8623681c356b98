/**
 * AUTH (RFC 4954): the command, the exchange of challenges and responses, the wait for the main thread's answer, and
 * what a failed login costs. No password is checked here: threads with sessions compute no hashes.
 */
import { randomBytes } from 'node:crypto';
import type { AuthAnswer, User } from '../auth/auth.ts';
import { LINE_FLAG } from '../native.ts';
import { argumentOf } from '../protocol/command.ts';
import { challengeReply, REPLY, type Reply } from '../protocol/reply.ts';
import { decodeBase64 } from '../protocol/sasl/base64.ts';
import { transmissionType } from '../protocol/trace.ts';
import { authOffer, isSafeForAuth } from './rights.ts';
import { createExchange, type Exchange, isServerFirst, type MechanismName, type Step } from './sasl.ts';
import type { Session } from './session.ts';
import { READY } from './state.ts';
import type { SessionView, Verb } from './verb.ts';

const NONCE_BYTES = 18;

interface AuthCommand {
  mechanism: MechanismName;
  /** null: none was given. */
  initial: Buffer | null;
}

export const auth: Verb<AuthCommand> = {
  name: 'AUTH',

  check(session, line) {
    return misplaced(session) ?? parseAuth(session, argumentOf(line, 4));
  },

  apply(session, { mechanism, initial }) {
    const { settings, clock } = session.context;
    const exchange = createExchange(mechanism, {
      nonce: () => randomBytes(NONCE_BYTES).toString('base64'),
      nowMs: clock.nowMs,
      hostname: settings.hostname,
      channelBindings: session.channelBindings,
    });
    take(session, exchange, exchange.start(initial));
  },
};

/** null, or why there can be no AUTH now. */
function misplaced(session: SessionView): Reply | null {
  if (session.state.phase === 'new') return REPLY.hello_first;
  if (session.listener.auth === 'off') return REPLY.not_implemented;
  if (session.user !== null) return REPLY.auth_twice;
  if (session.state.phase !== 'ready') return REPLY.auth_in_transaction;
  return isSafeForAuth(session) ? null : REPLY.auth_needs_tls;
}

/** `mechanism [SP initial-response]`, where '=' is a response of no octets. */
function parseAuth(session: SessionView, argument: string): AuthCommand | Reply {
  const [name = '', response, ...more] = argument.split(' ');
  if (!/^[A-Za-z0-9_-]{1,20}$/.test(name) || more.length > 0) return REPLY.auth_syntax;
  const wanted = name.toUpperCase();
  const mechanism = session.context.settings.mechanisms[authOffer(session)].find((one) => one === wanted);
  if (mechanism === undefined) return REPLY.auth_mechanism;
  if (response === undefined) return { mechanism, initial: null };
  if (isServerFirst(mechanism)) return REPLY.auth_no_initial;
  const initial = response === '=' ? Buffer.alloc(0) : response === '' ? null : decodeBase64(response);
  return initial === null ? REPLY.auth_malformed : { mechanism, initial };
}

/** A line of the client within an exchange. */
export function exchangeLine(session: Session, exchange: Exchange, text: string, flags: number): void {
  if ((flags & LINE_FLAG.tooLong) !== 0) fail(session, exchange, REPLY.auth_line_too_long);
  else if (text === '*') fail(session, exchange, REPLY.auth_cancelled);
  else {
    const response = flags === 0 ? decodeBase64(text) : null;
    if (response === null) fail(session, exchange, REPLY.auth_malformed);
    else respond(session, exchange, response);
  }
}

function respond(session: Session, exchange: Exchange, response: Buffer): void {
  const step = exchange.respond(response);
  if (step.kind === 'accepted')
    session.context.logins.proven({ client: session.client.address, username: step.user.name });
  take(session, exchange, step);
}

/** The main thread, which asked the backends of users, answered. */
export function loginAnswered(session: Session, answer: AuthAnswer): void {
  const { state } = session;
  if (state.phase !== 'login' || state.request !== answer.id) return;
  const { exchange, sinceMs } = state;
  session.holding.resume(() => take(session, exchange, exchange.answered(answer), sinceMs));
}

/** Does what the mechanism wants next. @param sinceMs when the client last spoke. */
function take(
  session: Session,
  exchange: Exchange,
  step: Step,
  sinceMs = session.context.clock.steadyMs,
): void {
  const { logins, settings } = session.context;
  switch (step.kind) {
    case 'challenge':
      session.state = { phase: 'exchange', exchange };
      session.reply(challengeReply(Buffer.from(step.text, 'utf8')));
      break;
    case 'ask': {
      const request = logins.ask(step.credentials, session);
      session.state = { phase: 'login', exchange, request, sinceMs };
      session.holding.begin(settings.commandTimeoutMs, () =>
        session.reply(REPLY.timed_out.with(settings.hostname)),
      );
      break;
    }
    case 'accepted':
      succeed(session, exchange, step.user);
      break;
    case 'rejected':
      reject(session, exchange, sinceMs);
      break;
    case 'malformed':
      fail(session, exchange, REPLY.auth_malformed);
      break;
    case 'unavailable':
      finish(session, REPLY.auth_unavailable);
      break;
  }
}

function succeed(session: Session, { mechanism }: Exchange, user: User): void {
  const { client, secure, context } = session;
  const protocol = transmissionType(true, { secure, authenticated: true, utf8: false });
  session.user = user;
  session.policy.authenticated(user.name);
  session.mayRelay = true;
  session.client = { ...client, protocol, user: user.name };
  context.log.info('auth.succeeded', {
    session_id: session.id,
    client_address: client.address,
    mechanism,
    user: user.name,
  });
  finish(session, REPLY.auth_ok);
}

/** Wrong name or password: answered after a delay that hides how long it took to find out. */
function reject(session: Session, exchange: Exchange, sinceMs: number): void {
  const { settings, clock } = session.context;
  report(session, exchange);
  const reply = oneMore(session, REPLY.auth_invalid);
  const leftMs = settings.authFailureDelayMs - (clock.steadyMs - sinceMs);
  session.state = READY;
  if (leftMs <= 0) session.reply(reply);
  else session.holding.begin(leftMs, () => session.holding.resume(() => session.reply(reply)));
}

/** The exchange is over. */
function finish(session: Session, reply: Reply): void {
  session.state = READY;
  session.reply(reply);
}

/** The exchange ends before there was a login to check; it counts as a failed AUTH of this connection nevertheless. */
function fail(session: Session, exchange: Exchange, reply: Reply): void {
  // The policy counts a malformed exchange like a wrong password; a cancelled one it does not count.
  if (reply !== REPLY.auth_cancelled) report(session, exchange);
  finish(session, oneMore(session, reply));
}

function report(session: Session, { mechanism }: Exchange): void {
  const { logins } = session.context;
  session.policy.failure('auth');
  logins.failed({ client: session.client.address, session: session.id, mechanism });
}

/** The reply to a failed AUTH, or the last one of the connection when it was one too many. */
function oneMore(session: Session, reply: Reply): Reply {
  const { hostname, maxAuthAttempts } = session.context.settings;
  return ++session.failedLogins >= maxAuthAttempts ? REPLY.too_many_auth_failures.with(hostname) : reply;
}
