/** The nouns of RFC 5321 §2.3.1: what a transaction says about a message before its content. */

export type BodyType = '7BIT' | '8BITMIME' | 'BINARYMIME';
export type ReturnType = 'FULL' | 'HDRS';

/** What a recipient is to us; each class has its own route, limits and priority. Decided once, at RCPT. */
export type RecipientClass = 'local' | 'virtual' | 'relay' | 'external';

/** NOTIFY of RFC 3461 §4.1 as a bit set; 0 means the parameter was not given (then FAILURE, and DELAY at our choice). */
export const NOTIFY = {
  never: 1,
  success: 2,
  failure: 4,
  delay: 8,
  /**
   * Not from the client: set when it had no right to relay, so that its reverse-path may be anybody's. See
   * strangersNotify.
   */
  stranger: 16,
} as const;

/**
 * NOTIFY of a client without relay rights, as it is kept and passed on. The sender that such mail names may have
 * nothing to do with it: so only failures are reported, as RFC 5321 §6.1 demands.
 */
export function strangersNotify(notify: number): number {
  if (notify === 0 || (notify & NOTIFY.never) !== 0) return notify | NOTIFY.stranger;
  return ((notify & NOTIFY.failure) !== 0 ? NOTIFY.failure : NOTIFY.never) | NOTIFY.stranger;
}

export interface Recipient {
  /** Forward-path without angle brackets and source route, as the client wrote it. */
  address: string;
  /** Lower-case domain part (A-label where the client gave one), or an address literal with its brackets. */
  domain: string;
  class: RecipientClass;
  /** Bit set of NOTIFY; for strangers as strangersNotify makes it. */
  notify: number;
  /** ORCPT as received (`rfc822;` + xtext), absent when not given. */
  orcpt?: string;
}

export interface Envelope {
  /** Reverse-path without brackets; '' is the null reverse-path. */
  reversePath: string;
  body: BodyType;
  smtpUtf8: boolean;
  ret?: ReturnType;
  /** ENVID as received (xtext). */
  envid?: string;
  /** AUTH of MAIL (RFC 4954 §5, xtext as received) from a trusted client; absent: not known, AUTH=<>. */
  submitter?: string;
  recipients: Recipient[];
}
