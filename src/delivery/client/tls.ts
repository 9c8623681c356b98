/**
 * TLS of an outgoing connection: whether it is wanted, STARTTLS (RFC 3207) or TLS from the first byte, and what a
 * failure means: with opportunistic TLS a second try in the clear, else the end of this connection.
 */
import { isIP } from 'node:net';
import type { PeerReply } from '../../mail/outcome.ts';
import { certificateFailure, type TlsSession, tlsFailure } from '../../mail/tls-session.ts';
import { TLS_VERIFY } from '../../native.ts';
import type { TlsFacts } from '../../protocol/tls-facts.ts';
import { replyLine } from '../outcome.ts';
import { daneText } from '../security/dane.ts';
import { type HostMode, modeFor } from '../security/host-mode.ts';
import { proceed, sayHello } from './hello.ts';
import type { ClientSession } from './session.ts';
import { type Fault, GREETING, SECURING, STARTTLS } from './state.ts';

/** The TLS mode for this host. */
const modeOf = ({ host, owner }: ClientSession): HostMode => modeFor(host, owner.tls.policy);

/** Whether mail may go in the clear to a host with which TLS failed. */
function mayBePlain({ owner }: ClientSession): boolean {
  return owner.rules.tls.plain_retry || owner.tls.policy.despite === true;
}

/** The connection is open. @returns true when TLS begins at once. */
export function opensSecured(session: ClientSession): boolean {
  return session.owner.tls.policy.implicit && modeOf(session) !== 'none';
}

/** Decides about STARTTLS after EHLO. @returns false when the session goes on as it is. */
export function negotiate(session: ClientSession): boolean {
  const { host, owner } = session;
  const { broken } = owner.tls;
  const mode = modeOf(session);
  if (session.tls !== null || mode === 'none' || host.plain === true) return false;
  const opportunistic = mode === 'opportunistic';
  if (opportunistic && mayBePlain(session) && broken.has(host, owner.now())) {
    session.fellBack = true;
    report(session, 'validation-failure', 'TLS with it failed lately');
    return false;
  }
  if (session.offered.startTls) {
    session.state = STARTTLS;
    session.port.sendLatin1(session.id, 'STARTTLS\r\n');
    session.wroteTurn = owner.turn;
    session.port.deadline(session.id, owner.rules.command_timeout_ms);
    return true;
  }
  report(session, 'starttls-not-supported', '');
  if (opportunistic) return false;
  refuse(session, null, `${session.peer} does not offer STARTTLS, and mail goes there with TLS only`);
  return true;
}

export function startTlsReply(session: ClientSession, reply: PeerReply): void {
  if (reply.code < 300) {
    secure(session);
    return;
  }
  if (modeOf(session) === 'opportunistic' && reply.code >= 400) {
    report(session, 'starttls-not-supported', replyLine(reply));
    session.fellBack = true;
    proceed(session);
  } else refuse(session, reply, `STARTTLS was refused: ${replyLine(reply)}`);
}

/** The connection ended at STARTTLS (lost, silent, 421, an answer that is none): a host that is not up to TLS. */
export function notStarted(session: ClientSession, fault: Fault): void {
  report(session, 'starttls-not-supported', fault.detail);
  fault.plainRetry = goesPlain(session);
}

/** Begins the handshake. */
export function secure(session: ClientSession): void {
  const { host, owner, port } = session;
  const { slot, policy } = owner.tls;
  const name =
    policy.serverName ?? (isIP(host.name) === 0 && host.name.startsWith('[') ? host.address : host.name);
  session.state = SECURING;
  session.securedAs = modeOf(session);
  if (host.dane !== undefined && host.dane.usable.length > 0) {
    // No TLS session is resumed here, because the records may have changed.
    port.secure(session.id, slot, TLS_VERIFY.dane, host.dane.base, '', daneText(host.dane));
  } else {
    const verify = modeOf(session) === 'verify' ? TLS_VERIFY.trust : TLS_VERIFY.ask;
    port.secure(session.id, slot, verify, name, `${host.address}/${host.port}/${name}`);
  }
  port.deadline(session.id, owner.rules.tls.handshake_timeout_ms);
}

export function secured(session: ClientSession, facts: TlsFacts): void {
  if (session.state.phase !== 'securing') return;
  const { version, cipher, verifyError, fingerprint, bindings } = facts;
  session.secure = true;
  session.channelBindings = bindings;
  session.tls = { version, cipher, verified: verifyError === 0 && fingerprint !== '' };
  reportSecured(session, facts);
  if (session.owner.tls.policy.implicit) {
    session.state = GREETING;
    session.port.deadline(session.id, session.owner.rules.command_timeout_ms);
    return;
  }
  // Anybody may have sent what came before (RFC 3207 §4.2).
  session.forgetInput();
  sayHello(session, 'EHLO');
}

/** The handshake failed, or did not end in time. */
export function notSecured(session: ClientSession, reason: string): void {
  const detail = `TLS with ${session.peer}: ${reason}`;
  report(session, tlsFailure(reason), reason);
  session.fail({ reason: 'tls_failed', reply: null, detail, plainRetry: goesPlain(session) });
}

/**
 * The session broke before it was established. If the handshake was done and no reply followed, TLS may be at fault,
 * too: in TLS 1.3 a host can refuse us (our certificate, for example) after our side is done.
 */
export function lostSecured(session: ClientSession, fault: Fault): void {
  if (session.tls !== null && isSilent(fault)) fault.plainRetry = goesPlain(session);
}

/**
 * A message broke off on an established session, and its attempt fails. If an earlier attempt failed as well, and the
 * session has taken no other message, TLS may be the reason (middleboxes that meddle with it, large packets that get
 * lost): the next attempt goes without. If that breaks off, too, TLS is not the reason, and is tried again.
 * @param attempts made before this one.
 */
export function brokeOff(session: ClientSession, fault: Fault, attempts: number): void {
  if (session.delivers || attempts === 0 || !isSilent(fault)) return;
  if (session.tls === null) session.owner.tls.broken.delete(session.host);
  // A password does not go in the clear.
  else if (session.host.auth === undefined) goesPlain(session);
}

function isSilent({ reason, confused }: Fault): boolean {
  return (reason === 'connection_lost' || reason === 'timeout') && confused !== true;
}

/** Whether the same host may be tried again without TLS; if so, remembers that for a while. */
function goesPlain(session: ClientSession): boolean {
  const { policy, broken } = session.owner.tls;
  const { broken_host_ttl_ms } = session.owner.rules.tls;
  const plain = modeOf(session) === 'opportunistic' && !policy.implicit && mayBePlain(session);
  if (plain && broken_host_ttl_ms > 0) broken.add(session.host, session.owner.now() + broken_host_ttl_ms);
  return plain;
}

/** Counts the session for the domain's TLS report. */
function report({ host, owner }: ClientSession, result: TlsSession['result'], detail: string): void {
  if (host.policy === undefined) return;
  owner.tls.record({ policy: host.policy, result, mx: host.name, address: host.address, detail });
}

/** Counts a session with TLS. Where nobody insists on the domain's policy, TLS may stand and yet not satisfy the policy. */
function reportSecured(session: ClientSession, { verifyError, fingerprint }: TlsFacts): void {
  const { dane, policy, unnamed, stsFailure } = session.host;
  if (dane?.usable.length === 0) report(session, 'tlsa-invalid', 'no record can be used');
  else if (policy?.type !== 'sts') report(session, 'success', '');
  else if (stsFailure !== undefined) report(session, stsFailure.result, stsFailure.detail);
  else if (unnamed === true) report(session, 'validation-failure', 'the policy does not name the host');
  else if (verifyError !== 0 || fingerprint === '') {
    report(session, certificateFailure(verifyError), `verification code ${verifyError}`);
  } else report(session, 'success', '');
}

function refuse(session: ClientSession, reply: PeerReply | null, detail: string): void {
  session.fail({ reason: 'tls_failed', reply, detail });
}
