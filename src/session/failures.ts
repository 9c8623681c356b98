/** Which refusals count towards a ban, and as what. */
import type { FailureKind } from '../policy/ban-table.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';

/** Refusals of recipients: sessions that guess addresses get many of them. */
const RECIPIENT: ReadonlySet<string> = new Set(['relay_denied']);

/** Refusals of commands that were sent ahead, behind one that was refused (RFC 2920): no errors, nothing to ban for. */
const ECHOES: ReadonlySet<string> = new Set(['offer_refused', 'no_recipients']);

export const isEcho = ({ reason }: Reply): boolean => ECHOES.has(reason);

/** What the reply counts as; null when honest clients get it too. */
export function failureOf({ code, reason }: Reply): FailureKind | null {
  if (RECIPIENT.has(reason)) return 'unknown_user';
  if (ECHOES.has(reason)) return null;
  return (code >= 500 && code <= 504) || code === 555 ? 'protocol' : null;
}

/** The reply to RCPT, DATA or BDAT without a transaction: MAIL is missing, was refused, or a chunk after it was. */
export function outOfTransaction({ offerRefused }: { offerRefused: boolean }): Reply {
  return offerRefused ? REPLY.offer_refused : REPLY.mail_first;
}
