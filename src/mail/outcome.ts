/** What became of a recipient in one attempt. Settled in one place (persistence/settle), logged once (I2). */

export interface PeerReply {
  /** 250, 451 … */
  code: number;
  /** '2.1.5', or '' when the peer gave none. */
  enhanced: string;
  /** Text lines joined by '\n', without codes; at most 1,000 characters. */
  text: string;
  /** 'mx1.example.net [192.0.2.1]' */
  peer: string;
}

/** Why a recipient goes back to the queue. Stored with it, so that `queue show` can say why it waits. */
export type DeferralReason =
  | 'peer-4xx'
  /** It talks to us no further (a 5xx to greeting or EHLO): the host's, not the message's. */
  | 'peer-refused'
  | 'connect-failed'
  | 'connection-lost'
  | 'timeout'
  | 'dns-temporary'
  /** No name server answers. */
  | 'dns-unavailable'
  | 'tls-failed'
  | 'auth-failed'
  | 'destination-suspended'
  | 'hand-off-released'
  | 'lease-lapsed'
  | 'content-unavailable'
  /** This machine has no descriptors, buffers, addresses or network for it. */
  | 'local-trouble'
  | 'shutdown'
  | 'internal'
  /** An error of ours ended the dialog; nobody else has a part in it. */
  | 'internal-error';

export type BounceReason =
  | 'peer-5xx'
  | 'no-such-domain'
  | 'null-mx'
  | 'mail-loop'
  | 'message-too-big'
  | 'needs-8bitmime'
  | 'needs-smtputf8'
  | 'needs-binarymime'
  | 'expired'
  | 'retry-disabled';

export type Outcome =
  | {
      kind: 'delivered';
      reply: PeerReply /** true: the next hop took over the DSN duty (RFC 3461 §5.2.2 relayed/…) */;
      dsnPassedOn: boolean;
    }
  | { kind: 'deferred'; reason: DeferralReason; reply?: PeerReply; detail: string; retryAtMs: number }
  | {
      kind: 'bounced';
      reason: BounceReason;
      reply?: PeerReply /** enhanced status for the DSN, '5.1.2' */;
      status: string;
      detail: string;
    };

/** Recipients (by their seq within the message) that met the same outcome; 10,000 equal fates are one group. */
export interface OutcomeGroup {
  seqs: number[];
  outcome: Outcome;
}
