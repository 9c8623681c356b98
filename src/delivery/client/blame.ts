/**
 * Decides whose fault a failure is. When no connection came about, it is the host's or our own. When a transaction
 * broke off, it is the host's (or the message's), or only the connection's; then the message is tried once more on a
 * new connection, and that try does not count. A peer that lost commands which were sent ahead of its replies gets
 * none ahead for a while (delivery.no_pipelining_ttl_ms).
 */
import ipaddr from 'ipaddr.js';
import type { ClientSession } from './session.ts';
import type { Fault, Transaction } from './state.ts';

/** Errors of connect that say that this machine lacks something, whoever the peer is. */
const ERRORS_OF_THIS_MACHINE: ReadonlySet<string> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EADDRNOTAVAIL',
  'ENETDOWN',
  'ENETUNREACH',
]);
/** Kinds of addresses that no host has: whoever publishes one is to blame, whatever error the system reports. */
const RANGES_OF_NO_HOST: ReadonlySet<string> = new Set(['broadcast', 'multicast', 'unspecified']);

/** Whether we are to blame that there is no connection. @param error of the system, as 'ENETUNREACH'. */
export function isOurs(error: string, address: string): boolean {
  return ERRORS_OF_THIS_MACHINE.has(error) && !RANGES_OF_NO_HOST.has(ipaddr.process(address).range());
}

/**
 * For a transaction of which no content was sent: whether the fault is the connection's, and the message has no part
 * in it.
 */
export function isOfConnection(session: ClientSession, transaction: Transaction, fault: Fault): boolean {
  const { reason, reply, confused = false } = fault;
  const unseen = transaction.replies === 0;
  if (reason === 'shutdown') return unseen;
  if (reason !== 'connection_lost' && reason !== 'timeout' && reply?.code !== 421) return false;
  const silent = reason === 'timeout';
  if (session.transactions > 1) {
    const lostAhead =
      confused || (unseen && (transaction.awaits === 'rset' || (silent && transaction.ahead)));
    if (lostAhead) beCareful(session);
    // The peer ends connections after use, or has lost its place in this one.
    if (unseen || confused) return true;
    if (refusesFurther(session, transaction, fault)) {
      if (session.borrowed) session.owner.keepApart();
      return true;
    }
  }
  const lost = confused || (silent && !unseen);
  if (!session.offered.pipelining || !lost || !beCareful(session)) return false;
  return confused || !session.owner.hasOthers(session);
}

/** Whether the peer took messages on this connection, and ends it at a recipient of a further one: it may count recipients. */
const refusesFurther = (
  session: ClientSession,
  { awaits }: Transaction,
  { reason, reply, verdict }: Fault,
): boolean =>
  session.delivers &&
  awaits === 'rcpt' &&
  (reply === null ? reason === 'connection_lost' : verdict?.move === 'retry_later');

export function isCareful({ owner, host }: ClientSession): boolean {
  return owner.careful.has(host, owner.now());
}

/** Remembers that the host loses what is sent ahead. @returns false when the config wants nothing remembered. */
function beCareful({ owner, host }: ClientSession): boolean {
  const { no_pipelining_ttl_ms } = owner.rules;
  if (no_pipelining_ttl_ms === 0) return false;
  owner.careful.add(host, owner.now() + no_pipelining_ttl_ms);
  return true;
}
