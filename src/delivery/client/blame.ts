/**
 * Whose fault it is. Of a connection that did not come about: the host's, or our own. Of a broken transaction: the host's
 * (or the message's), or only the connection's, so that the message is tried once more on a new one without counting. A peer that lost what was sent ahead of its replies is not trusted with
 * that again for a while (delivery.no_pipelining_ttl_ms).
 */
import ipaddr from 'ipaddr.js';
import type { ClientSession } from './session.ts';
import type { Fault, Transaction } from './state.ts';

/** Of connect: what this machine lacks, whoever the peer is. */
const LOCAL: ReadonlySet<string> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EADDRNOTAVAIL',
  'ENETDOWN',
  'ENETUNREACH',
]);
/** Kinds of addresses no host has: who publishes one is to blame, whatever the system says of it. */
const NOBODYS: ReadonlySet<string> = new Set(['broadcast', 'multicast', 'unspecified']);

/** Whether it is our own trouble that there is no connection. @param error of the system, 'ENETUNREACH'. */
export function isOurs(error: string, address: string): boolean {
  return LOCAL.has(error) && !NOBODYS.has(ipaddr.process(address).range());
}

/** Of an envelope: no content was sent. True: the message had no part in the fault. */
export function isOfConnection(
  session: ClientSession,
  transaction: Transaction,
  { reason, reply, confused = false }: Fault,
): boolean {
  const unseen = transaction.replies === 0;
  if (reason === 'shutdown') return unseen;
  if (reason !== 'connection-lost' && reason !== 'timeout' && reply?.code !== 421) return false;
  const silent = reason === 'timeout';
  if (session.transactions > 1) {
    const lostAhead =
      confused || (unseen && (transaction.awaits === 'rset' || (silent && transaction.ahead)));
    if (lostAhead) beCareful(session);
    // The peer ends connections that were in use, or lost its way in this one.
    if (unseen || confused) return true;
  }
  const lost = confused || (silent && !unseen);
  if (!session.offered.pipelining || !lost || !beCareful(session)) return false;
  return confused || !session.owner.hasOthers(session);
}

export function isCareful({ owner, host }: ClientSession): boolean {
  return owner.careful.has(host, owner.now());
}

/** @returns false: it is not to be remembered. */
function beCareful({ owner, host }: ClientSession): boolean {
  const { no_pipelining_ttl_ms } = owner.rules;
  if (no_pipelining_ttl_ms === 0) return false;
  owner.careful.add(host, owner.now() + no_pipelining_ttl_ms);
  return true;
}
