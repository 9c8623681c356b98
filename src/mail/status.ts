/** The enhanced status code (RFC 3463) of what became of a recipient, for reports and events. */
import { deferralStatus } from './deferrals.ts';
import type { Outcome } from './outcome.ts';

/** What the peer's reply says, else what the reason means; in the class of the outcome, whatever class the peer gave. */
export function statusOf(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'delivered':
      return inClass('2', outcome.reply.enhanced) ?? '2.0.0';
    case 'deferred':
      return inClass('4', outcome.reply?.enhanced) ?? deferralStatus(outcome.reason, false);
    case 'bounced':
      return inClass('5', outcome.status) ?? '5.0.0';
  }
}

function inClass(digit: string, status = ''): string | null {
  if (status === '') return null;
  return status.startsWith(digit) ? status : digit + status.slice(1);
}
