/** Enhanced status codes (RFC 3463) for what went wrong without a reply that names one. */
import type { DeferralReason } from './outcome.ts';

const DETAIL: Record<DeferralReason, string> = {
  'peer-4xx': '0.0',
  'peer-refused': '3.2',
  'connect-failed': '4.1',
  'connection-lost': '4.2',
  timeout: '4.2',
  'dns-temporary': '4.3',
  'tls-failed': '7.5',
  'auth-failed': '7.8',
  'destination-suspended': '4.1',
  'hand-off-released': '3.2',
  'lease-lapsed': '3.2',
  'content-unavailable': '3.0',
  shutdown: '3.2',
  internal: '3.5',
};

/** '4.4.1' while it is tried again, '5.4.1' once it is given up. */
export function deferralStatus(reason: DeferralReason, givenUp: boolean): string {
  return `${givenUp ? 5 : 4}.${DETAIL[reason]}`;
}
