/**
 * AUTH at a next hop (RFC 4954): the choice of a mechanism that both sides have, its exchange, and what a refusal
 * means. A next hop that is configured with a user name never gets mail without it. Failures defer mail, because the
 * config is at fault and an operator can mend it. No part of a secret gets into a detail, a reply that is kept, or a
 * log.
 */
import { readRegularText } from '../../base/regular-file.ts';
import type { PeerReply } from '../../mail/outcome.ts';
import { decodeBase64 } from '../../protocol/sasl/base64.ts';
import { replyLine } from '../outcome.ts';
import type { NextHopAuth } from '../route.ts';
import {
  type ClientExchange,
  clientExchange,
  isReadable,
  type OfferedMechanism,
  SCRAM_PLUS,
} from './sasl.ts';
import type { ClientSession } from './session.ts';
import type { ClientState } from './state.ts';

export type AuthState = Extract<ClientState, { phase: 'auth' }>;

/**
 * Longest AUTH command with an initial response (RFC 4954 §4: the limit of commands); a longer response is sent when
 * the peer asks for it.
 */
const MAX_COMMAND = 510;
/** Codes that refuse the mechanism, not user and password: another mechanism may work. */
const NO_TO_MECHANISM: readonly number[] = [500, 501, 502, 504, 534, 538];

/** To be called after EHLO: authenticates, and then establishes the session. */
export function authenticate(session: ClientSession, auth: NextHopAuth): void {
  const usable = usableMechanisms(session, auth);
  if (typeof usable === 'string') fail(session, usable, null);
  else start(session, usable);
}

/** The exchanges that can be tried, best first; or why there are none. */
function usableMechanisms(session: ClientSession, auth: NextHopAuth): ClientExchange[] | string {
  const token = accessToken(auth);
  if (token instanceof Error) return `the access token cannot be read: ${token.message}`;
  if (token !== null) session.secrets.add(token);
  const offered = session.offered.auth;
  const credentials = {
    username: auth.username,
    password: auth.password ?? null,
    accessToken: token,
    channelBindings: session.channelBindings,
    offersPlus: offered.includes(SCRAM_PLUS),
  };
  // SCRAM-SHA-256 in the config also allows SCRAM-SHA-256-PLUS, which is tried before it.
  const common = auth.mechanisms
    .flatMap((one): OfferedMechanism[] => (one === 'SCRAM-SHA-256' ? [SCRAM_PLUS, one] : [one]))
    .filter((one) => offered.includes(one));
  const exchanges = common
    .filter((one) => session.secure || auth.allow_without_tls || !isReadable(one))
    .flatMap((one) => clientExchange(one, credentials) ?? []);
  if (exchanges.length > 0) return exchanges;
  const offers =
    offered.length === 0 ? 'offers no AUTH' : `offers AUTH ${session.secrets.hide(offered.join(' '))}`;
  return common.some(isReadable) && !session.secure
    ? `${session.peer} ${offers}; passwords are not sent without TLS (auth.allow_without_tls)`
    : `${session.peer} ${offers}; none of auth.mechanisms for which there is a password or token`;
}

function accessToken({ access_token, access_token_file }: NextHopAuth): string | null | Error {
  if (access_token_file === undefined) return access_token ?? null;
  try {
    return readRegularText(access_token_file).trim() || new Error(`${access_token_file} is empty`);
  } catch (error) {
    return error as Error;
  }
}

function start(session: ClientSession, exchanges: ClientExchange[]): void {
  const [exchange, ...others] = exchanges as [ClientExchange, ...ClientExchange[]];
  const state: AuthState = { phase: 'auth', exchange, others, pending: null };
  session.state = state;
  let command = `AUTH ${exchange.mechanism}`;
  if (exchange.initial !== null) {
    const text = exchange.initial.toString('base64');
    session.secrets.addBase64(text);
    if (command.length + 1 + text.length <= MAX_COMMAND) command += ` ${text}`;
    else state.pending = exchange.initial;
  }
  say(session, command);
}

function say(session: ClientSession, line: string): void {
  session.port.sendLatin1(session.id, `${line}\r\n`);
  session.wroteTurn = session.owner.turn;
  session.port.deadline(session.id, session.owner.rules.command_timeout_ms);
}

export function authReply(session: ClientSession, state: AuthState, reply: PeerReply, text: string): void {
  const { exchange, others } = state;
  if (reply.code >= 300 && reply.code < 400) {
    challenge(session, state, text);
    return;
  }
  if (reply.code < 300) {
    if (!exchange.complete) fail(session, `${session.peer} did not prove that it knows the password`, null);
    else {
      session.authenticated = true;
      session.established();
    }
  } else {
    const next = worthTrying(session, reply.code, exchange, others);
    if (next.length > 0) start(session, next);
    else fail(session, `AUTH ${exchange.mechanism}: ${replyLine(reply)}`, reply);
  }
}

/**
 * Which exchanges may succeed after a refusal. When the credentials were refused, only those that send the password
 * itself: the peer may have stored a hash that a proof does not fit. But when -PLUS was refused, somebody may sit
 * between us, who must not get the password.
 */
function worthTrying(
  session: ClientSession,
  code: number,
  { mechanism }: ClientExchange,
  others: ClientExchange[],
): ClientExchange[] {
  if (NO_TO_MECHANISM.includes(code)) return others;
  const mayTell = mechanism !== SCRAM_PLUS || session.tls?.verified === true;
  if (code !== 535 || isReadable(mechanism) || !mayTell) return [];
  return others.filter((one) => isReadable(one.mechanism));
}

function challenge(session: ClientSession, state: AuthState, text: string): void {
  if (state.pending !== null) {
    const { pending } = state;
    state.pending = null;
    respond(session, state, pending);
    return;
  }
  const octets = state.exchange.reads ? decodeBase64(text.trim()) : Buffer.alloc(0);
  if (octets === null) {
    fail(session, `${session.peer} sent a challenge that is not Base64`, null);
    return;
  }
  const response = state.exchange.respond(octets);
  if (!(response instanceof Promise)) respond(session, state, response);
  else
    void response.then(
      (octetsLater) => later(session, state, () => respond(session, state, octetsLater)),
      (error) =>
        later(session, state, () => {
          throw error;
        }),
    );
}

/** Does work outside a loop turn, unless the session has left this state: it may be closed by now. */
function later(session: ClientSession, state: AuthState, work: () => void): void {
  const { owner } = session;
  owner.outside(() => {
    if (session.state === state) owner.guard(session, 'auth', work);
  });
}

function respond(session: ClientSession, state: AuthState, response: Buffer | null): void {
  if (response === null) {
    fail(session, `${session.peer} does not keep to ${state.exchange.mechanism}`, null);
    return;
  }
  const text = response.toString('base64');
  session.secrets.addBase64(text);
  // A proof is not the password, but passwords can be tested against it.
  if (state.exchange.reads) session.secrets.addText(response.toString());
  say(session, text);
}

function fail(session: ClientSession, detail: string, reply: PeerReply | null): void {
  session.fail({ reason: 'auth_failed', reply, detail });
}
