/** Which refusals count towards a ban, and as what. */
import type { FailureKind } from '../policy/ban-table.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';

/** Recipients that are not ours to take. Of sessions that guess addresses there are many of these. */
const RECIPIENT: ReadonlySet<string> = new Set(['relayDenied']);

/** What was sent on behind a refusal (RFC 2920): no error of its own, and nothing to be banned for. */
const ECHOES: ReadonlySet<string> = new Set(['offerRefused', 'noRecipients']);

export const isEcho = ({ reason }: Reply): boolean => ECHOES.has(reason);

/** null: honest clients get such a reply too. */
export function failureOf({ code, reason }: Reply): FailureKind | null {
  if (RECIPIENT.has(reason)) return 'unknown_user';
  if (ECHOES.has(reason)) return null;
  return (code >= 500 && code <= 504) || code === 555 ? 'protocol' : null;
}

/** To RCPT, DATA or BDAT without a transaction: there was no MAIL, or it was refused, or a chunk of its content was. */
export function outOfTransaction({ offerRefused }: { offerRefused: boolean }): Reply {
  return offerRefused ? REPLY.offerRefused : REPLY.mailFirst;
}
