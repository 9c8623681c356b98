/**
 * What each reason to defer means: its enhanced status code (RFC 3463), who is to blame, and the pause before the
 * next try.
 */
import type { DeferralReason } from './outcome.ts';

interface Deferral {
  /** Status code, without its class, where no reply gives one. */
  status: string;
  /**
   * peer: the attempt counts towards retry.max_attempts. ours: it does not, and only the message's age ends the tries.
   */
  whose: 'peer' | 'ours';
  /**
   * schedule: by the number of attempts (retry.*). none: as soon as possible. moment: a short pause, because the
   * trouble is over in a moment. age: the longer the message has waited, the longer, because attempts do not count.
   */
  pause: 'schedule' | 'none' | 'moment' | 'age';
}

export const DEFERRALS: Readonly<Record<DeferralReason, Deferral>> = {
  peer_4xx: { status: '0.0', whose: 'peer', pause: 'schedule' },
  peer_5xx: { status: '0.0', whose: 'peer', pause: 'schedule' },
  peer_refused: { status: '3.2', whose: 'peer', pause: 'schedule' },
  connect_failed: { status: '4.1', whose: 'peer', pause: 'schedule' },
  connection_lost: { status: '4.2', whose: 'peer', pause: 'schedule' },
  timeout: { status: '4.2', whose: 'peer', pause: 'schedule' },
  dns_temporary: { status: '4.3', whose: 'peer', pause: 'schedule' },
  dns_unavailable: { status: '4.3', whose: 'ours', pause: 'age' },
  tls_failed: { status: '7.5', whose: 'peer', pause: 'schedule' },
  auth_failed: { status: '7.8', whose: 'peer', pause: 'schedule' },
  destination_suspended: { status: '4.1', whose: 'ours', pause: 'age' },
  suppression_unknown: { status: '3.0', whose: 'ours', pause: 'moment' },
  held_by_rule: { status: '7.0', whose: 'ours', pause: 'none' },
  suspended: { status: '3.2', whose: 'ours', pause: 'none' },
  limit_reached: { status: '4.5', whose: 'ours', pause: 'moment' },
  hand_off_released: { status: '3.2', whose: 'ours', pause: 'moment' },
  lease_lapsed: { status: '3.2', whose: 'ours', pause: 'moment' },
  signing_failed: { status: '7.5', whose: 'ours', pause: 'age' },
  content_unavailable: { status: '3.0', whose: 'ours', pause: 'age' },
  local_trouble: { status: '3.2', whose: 'ours', pause: 'age' },
  shutdown: { status: '3.2', whose: 'ours', pause: 'none' },
  internal: { status: '3.5', whose: 'ours', pause: 'age' },
  internal_error: { status: '3.0', whose: 'ours', pause: 'age' },
};

/** '4.4.1' while it is tried again, '5.4.1' once it is given up. */
export function deferralStatus(reason: DeferralReason, givenUp: boolean): string {
  return `${givenUp ? 5 : 4}.${DEFERRALS[reason].status}`;
}
