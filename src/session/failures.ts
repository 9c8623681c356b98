/** Which refusals count towards a ban, and as what. */
import type { FailureKind } from '../policy/ban-table.ts';
import type { Reply } from '../protocol/reply.ts';

/** Recipients that are not ours to take. Of sessions that guess addresses there are many of these. */
const RECIPIENT: ReadonlySet<string> = new Set(['relayDenied']);

/** null: honest clients get such a reply too. */
export function failureOf({ code, reason }: Reply): FailureKind | null {
  if (RECIPIENT.has(reason)) return 'unknown_user';
  return (code >= 500 && code <= 504) || code === 555 ? 'protocol' : null;
}
