/**
 * What became of a recipient in one attempt. It is settled in one place (persistence/to-settlement.ts), and logged
 * once (I2).
 */
import type { Peer } from './peer.ts';
import type { HELD_BY_RULE } from './rule-hold.ts';
import type { Verdict } from './verdict.ts';

export interface PeerReply {
  /** 250, 451 … */
  code: number;
  /** '2.1.5', or '' when the peer gave none. */
  enhanced: string;
  /** Text lines joined by '\n', without codes; at most 1,000 characters. */
  text: string;
  peer: Peer;
}

/** Why a recipient goes back to the queue. It is stored, so that `queue show` can say why the recipient waits. */
export type DeferralReason =
  | 'peer_4xx'
  /** A 5xx that means no more than a 4xx, as the rules for replies say. */
  | 'peer_5xx'
  /** The host refuses to talk to us (a 5xx to greeting or EHLO): that says nothing of the message. */
  | 'peer_refused'
  | 'connect_failed'
  | 'connection_lost'
  | 'timeout'
  | 'dns_temporary'
  /** No name server answers. */
  | 'dns_unavailable'
  | 'tls_failed'
  | 'auth_failed'
  | 'destination_suspended'
  /** A rule of an operator holds it (mail/suspension.ts). */
  | 'suspended'
  /** Whether it is on the suppression list cannot be found out now. */
  | 'suppression_unknown'
  /** A rule of `egress.routing` holds it until an operator releases it (mail/rule-hold.ts). */
  | typeof HELD_BY_RULE
  | 'limit_reached'
  | 'hand_off_released'
  | 'lease_lapsed'
  | 'content_unavailable'
  /** No key could sign it (dkim.on_error). */
  | 'signing_failed'
  /** This machine lacks descriptors, buffers, addresses or network for a connection. */
  | 'local_trouble'
  | 'shutdown'
  | 'internal'
  /** A program error ended the dialog; the peer has no part in it. */
  | 'internal_error';

export type BounceReason =
  | 'peer_5xx'
  /** A rule of an operator for replies says that it is over. */
  | 'peer_4xx'
  | 'no_such_domain'
  | 'null_mx'
  | 'mail_loop'
  | 'message_too_big'
  | 'needs_8bitmime'
  | 'needs_smtputf8'
  | 'needs_binarymime'
  | 'signing_failed'
  | 'expired'
  | typeof DEADLINE_PASSED
  | 'retry_disabled'
  /** It is on the suppression list: nothing was sent. */
  | 'suppressed'
  /** A rule on what peers refuse says so (docs/rules.md): nothing was sent. */
  | 'failed_by_rule'
  /** A rule of `egress.routing` says that nothing is sent. */
  | 'discarded'
  | typeof FAILED_BY_OPERATOR;

/** Reason of recipients whose message has passed its deadline (mail/attributes.ts). */
export const DEADLINE_PASSED = 'deadline_passed';

/** Whether recipients that bounced for this reason have expired: no peer refused them, their time was over. */
export const isExpiry = (reason: string): boolean => reason === 'expired' || reason === DEADLINE_PASSED;

/** Reason of recipients that an operator ended (`queue fail`). */
export const FAILED_BY_OPERATOR = 'failed_by_operator';

export type Outcome =
  | {
      kind: 'delivered';
      reply: PeerReply;
      /** Whether the next hop took over the duty to send DSNs (RFC 3461 §5.2.2). */
      dsnPassedOn: boolean;
    }
  | {
      kind: 'deferred';
      reason: DeferralReason;
      reply?: PeerReply;
      /** Who was asked, where there is no reply to say so. */
      peer?: Peer;
      detail: string;
      /** What the reply means; absent where none about mail was given. */
      verdict?: Verdict;
      retryAtMs: number;
    }
  | {
      kind: 'bounced';
      reason: BounceReason;
      reply?: PeerReply;
      peer?: Peer;
      /** Enhanced status for the DSN, '5.1.2'. */
      status: string;
      detail: string;
      verdict?: Verdict;
    };

/** Recipients (by their seq within the message) with the same outcome; 10,000 equal fates are one group. */
export interface OutcomeGroup {
  seqs: number[];
  outcome: Outcome;
}
