/**
 * A connection that was opened for another domain of the site, and refuses this one: it may do so because of the other one. So the
 * reply counts only where it comes on a connection of the domain's own.
 */
import type { ReplyClass, Verdict } from '../../mail/verdict.ts';
import type { ClientSession } from './session.ts';

/** What a host may say of a domain that it did not expect on this connection. */
const OF_THE_DOMAIN: ReadonlySet<ReplyClass> = new Set([
  'relay_denied',
  'bad_domain',
  'routing',
  'policy',
  'protocol',
  'system_temporary',
  'unknown',
]);

/** What a refusal means there: the mail goes on at once over a connection of its own, and so does later mail of the domain. */
export function asBorrowed({ owner }: ClientSession, verdict: Verdict): Verdict {
  if (!OF_THE_DOMAIN.has(verdict.class)) return verdict;
  owner.keepApart();
  return { ...verdict, move: 'reconnect_now' };
}
