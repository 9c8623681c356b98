/**
 * Whose fault a broken transaction is: the host's (or the message's), or only the connection's, so that the message is
 * tried once more on a new one without counting. A peer that lost what was sent ahead of its replies is not trusted with
 * that again for a while (delivery.no_pipelining_ttl_ms).
 */
import type { ClientSession } from './session.ts';
import type { Fault, Transaction } from './state.ts';

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
  return owner.careful.has(host.address, owner.now());
}

/** @returns false: it is not to be remembered. */
function beCareful({ owner, host }: ClientSession): boolean {
  const { no_pipelining_ttl_ms } = owner.rules;
  if (no_pipelining_ttl_ms === 0) return false;
  owner.careful.add(host.address, owner.now() + no_pipelining_ttl_ms);
  return true;
}
