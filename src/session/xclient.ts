/** XCLIENT and XFORWARD: a listed peer says whom it speaks for; what XCLIENT says counts as if the client itself came. */
import { POLICY_REPLY } from '../protocol/policy-reply.ts';
import { parseTold, type Told, XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES } from '../protocol/xclient.ts';
import { arriveAs } from './arrival.ts';
import type { SessionView, Verb } from './verb.ts';

const keyword = (name: string, attributes: readonly string[]): string => `${name} ${attributes.join(' ')}`;

/** What EHLO offers to this client beyond the rest. */
export function toldKeywords({ policy }: Pick<SessionView, 'policy'>): string[] {
  const words: string[] = [];
  if (policy.mayXclient) words.push(keyword('XCLIENT', XCLIENT_ATTRIBUTES));
  if (policy.mayXforward) words.push(keyword('XFORWARD', XFORWARD_ATTRIBUTES));
  return words;
}

const betweenTransactions = ({ state }: SessionView): boolean =>
  state.phase === 'new' || state.phase === 'ready';

export const xclient: Verb<Told> = {
  name: 'XCLIENT',
  check(session, line) {
    if (!session.policy.mayXclient) return POLICY_REPLY.xclient_denied;
    if (!betweenTransactions(session)) return POLICY_REPLY.xclient_late;
    const told = parseTold(line, XCLIENT_ATTRIBUTES);
    return typeof told === 'string' ? POLICY_REPLY.xclient_syntax.with(told) : told;
  },
  apply(session, told) {
    const { log } = session.context;
    log.info('session.xclient', {
      session_id: session.id,
      client_address: session.client.address,
      told: logged(told),
    });
    arriveAs(session, told, knownOf(told));
  },
};

export const xforward: Verb<Told> = {
  name: 'XFORWARD',
  check(session, line) {
    if (!session.policy.mayXforward) return POLICY_REPLY.xforward_denied;
    if (!betweenTransactions(session)) return POLICY_REPLY.xforward_late;
    const told = parseTold(line, XFORWARD_ATTRIBUTES);
    return typeof told === 'string' ? POLICY_REPLY.xforward_syntax.with(told) : told;
  },
  apply(session, told) {
    session.context.log.info('session.xforward', { session_id: session.id, told: logged(told) });
    session.forward(told);
  },
};

function logged({ address, helo, protocol, login, others }: Told): Record<string, unknown> {
  return { ...others, addr: address, helo, proto: protocol, login };
}

/** What the peer does know of its client, to be laid over what we had. */
export function knownOf({ address, helo, protocol, others }: Told): {
  address?: string;
  port?: number;
  helo?: string;
  protocol?: string;
} {
  return {
    ...(address ? { address, port: portOf(others.port) } : {}),
    ...(helo ? { helo } : {}),
    ...(protocol ? { protocol } : {}),
  };
}

const portOf = (text = ''): number => (/^\d{1,5}$/.test(text) ? Number(text) : 0);
