/**
 * From an open connection to the banner: whom a proxy brings, who is refused or has to wait, and the same again when
 * XCLIENT says that the client is another one.
 */
import { formatIp, parseIp } from '../base/ip.ts';
import { type ClientInfo, UNKNOWN_CLIENT } from '../mail/message.ts';
import { parseProxyHeader } from '../protocol/proxy-header.ts';
import { REPLY } from '../protocol/reply.ts';
import type { Told } from '../protocol/xclient.ts';
import type { Session } from './session.ts';
import { beginTls } from './starttls.ts';
import { NEW } from './state.ts';

/** Greets, turns away while the relay drains, or waits for the header that says who it is. */
export function arrive(session: Session): void {
  const { policy, connection, context } = session;
  if (!policy.expectsProxy) {
    begin(session);
    return;
  }
  context.port.expectProxy(connection);
  session.holding.begin(policy.proxyTimeoutMs, () => turnAway(session, 'timeout'));
}

/** The PROXY header came. @param header '' when what came is no PROXY header: the connection is closed. */
export function arriveByProxy(session: Session, header: string): void {
  const parsed = parseProxyHeader(header);
  if (parsed === null) {
    turnAway(session, 'malformed');
    return;
  }
  if (!become(session, parsed.source, 'proxy')) return;
  if (parsed.port !== undefined) session.client.port = parsed.port;
  session.lines.expect();
  begin(session);
}

/** XCLIENT: the session begins anew as that client's. */
export function arriveAs(session: Session, told: Told, known: Partial<ClientInfo>): void {
  session.state = NEW;
  session.user = null;
  session.policy.anonymous();
  // Rights that the peer got by AUTH are its own, not those of the clients it speaks for.
  session.mayRelay = session.context.relayPolicy.isRelayClient(session.client.address);
  session.client = { ...session.client, ...known };
  if (told.address !== undefined && !become(session, told.address, 'xclient')) return;
  if (told.login) session.policy.authenticated(told.login);
  session.policy.opened();
  session.greet();
}

/** TLS comes before anything else where it is implicit. */
function begin(session: Session): void {
  if (session.listener.tls === 'implicit') beginTls(session);
  else welcome(session);
}

/** Greets, after the greet delay where there is one. */
export function welcome(session: Session): void {
  const { settings, admission } = session.context;
  if (admission.draining()) {
    session.reply(REPLY.draining.with(settings.hostname));
    return;
  }
  session.policy.opened();
  const delayMs = session.policy.greetDelayMs();
  if (delayMs === 0) session.greet();
  else session.holding.begin(delayMs, () => session.holding.resume(() => session.greet()), true);
}

/**
 * Makes `source` the client of the session; false when the policy refuses that client.
 * @param source null: the peer does not know its client. The client is not the peer then, and has none of its rights.
 */
function become(session: Session, source: string | null, by: 'proxy' | 'xclient'): boolean {
  const ip = source === null ? null : parseIp(source);
  const address = ip === null ? UNKNOWN_CLIENT : formatIp(ip);
  session.mayRelay = session.context.relayPolicy.isRelayClient(address);
  session.client = { ...session.client, address };
  if (by === 'proxy') session.client.port = 0;
  const refusal = session.policy.moved(address, session.mayRelay, by);
  if (refusal !== null) session.refuse(refusal);
  return refusal === null;
}

function turnAway(session: Session, why: string): void {
  const { context, id, peer } = session;
  context.log.info('session.proxy_refused', { session_id: id, client_address: peer, reason: why });
  session.close();
}
