import type { Attributes } from './attributes.ts';
import type { BodyType, ReturnType } from './envelope.ts';
import type { ContentHandle, Message } from './message.ts';
import type { OutcomeGroup } from './outcome.ts';
import type { TlsUse } from './tls-use.ts';

/** An entry of the queue, and what is told of its message. */
export interface EntryFacts {
  queueId: string;
  destination: string;
  reversePath: string;
  /** '' when it has none. */
  messageId: string;
}

export interface JobRecipient {
  /** Index of the recipient within its message, as stored in mail_recipients. */
  seq: number;
  address: string;
  notify: number;
  orcpt?: string;
}

/**
 * One outbox row to attempt: the recipients of one message that share a destination. It is made either straight from a
 * committed message (hand-off from memory), or by a claim of a due row from the database. It carries one reference on
 * `content`, which the delivery thread releases.
 */
export interface Job {
  queueId: string;
  /** Scheduling key: 'smarthost', the recipients' domain, or an operator's (operator-keys.ts). */
  destination: string;
  /** Attempts made before this one. */
  attempts: number;
  /** Fencing number of the lease; a result with an older number is rejected. */
  fence: number;
  reversePath: string;
  body: BodyType;
  smtpUtf8: boolean;
  ret?: ReturnType;
  envid?: string;
  /** See Envelope. */
  submitter?: string;
  /** See Message. */
  messageId?: string;
  /** Who authenticated when it came in. */
  user?: string;
  /** See Message. */
  attributes?: Attributes;
  trace: string;
  content: ContentHandle;
  sizeBytes: number;
  receivedAtMs: number;
  /** Whether a delay DSN was sent for this row. */
  delayNotified: boolean;
  /** The epoch of the lease under which it goes out (see scheduler/leases.ts). */
  leaseEpoch?: number;
  /** See suspicion.ts; absent: none. */
  suspicion?: number;
  /** What an operator said of recipients that are to be ended (key `fail:…`); absent: nothing. */
  operatorText?: string;
  /** Recipients that are on the suppression list, and what it says of them; absent: none. */
  suppressed?: { seq: number; detail: string }[];
  recipients: JobRecipient[];
}

/** Times of an attempt in milliseconds, for the delivery event (design §9). */
export interface AttemptTimes {
  queueMs: number;
  connectMs: number;
  transferMs: number;
}

/**
 * What a delivery thread reports of a Job: every recipient of the job is in exactly one group. DSNs that the outcomes
 * call for come along, so that they become durable in the same transaction that settles the recipients (I3).
 */
export interface AttemptResult {
  queueId: string;
  destination: string;
  fence: number;
  /** Attempts made, this one included. */
  attempts: number;
  reversePath: string;
  /** The site it went to (shaping/sites.ts); absent where none is known, or the operator chose the hosts. */
  site?: string;
  /** Name of the source it left from; absent for the default one. */
  source?: string;
  /** As in the Job. */
  messageId?: string;
  user?: string;
  attributes?: Attributes;
  envid?: string;
  /** Domains that signed it, where a limit or a refusal is about that; else absent. */
  dkimDomains?: readonly string[];
  receivedAtMs: number;
  sizeBytes: number;
  groups: OutcomeGroup[];
  /** Recipient addresses by seq, for events: same order as Job.recipients. */
  recipients: JobRecipient[];
  times: AttemptTimes;
  /** Absent when there was no connection, or one in the clear. */
  tls?: TlsUse;
  /** Failure, success or delay DSNs to submit; they have the null reverse-path. */
  dsns: Message[];
  /** Whether a delay DSN is among them, which is to be noted in the row. */
  delayNotified: boolean;
}
