/** What stands in the lines of the event files (docs/events.md). */
import type { MailClass } from '../mail/attributes.ts';
import type { BounceReason, DeferralReason } from '../mail/outcome.ts';
import type { ReplyClass, ReplyMove, ReplyScope } from '../mail/verdict.ts';

interface Common {
  /** When the line was made, RFC 3339 in UTC. */
  time: string;
  node: string;
}

/** Attributes of the message (docs/attributes.md), where it has them. */
interface AttributeFields {
  tenant?: string;
  campaign?: string;
  /** `class` is that of a reply. */
  mail_class?: MailClass;
  pool?: string;
  metadata?: Record<string, unknown>;
  deadline_at?: string;
  priority_hint?: number;
}

/** We took responsibility for a message; one line per message. For our own reports the client is "internal". */
export interface AcceptedEvent extends Common, AttributeFields {
  type: 'accepted';
  queue_id: string;
  /** Reverse-path; '' for the null one. */
  sender: string;
  message_id?: string;
  recipients: number;
  /** Bytes of content, our trace header excluded. */
  size_bytes: number;
  client_address: string;
  client_port?: number;
  /** Not of our own reports. */
  helo?: string;
  protocol?: string;
  session_id?: string;
  listener?: string;
  /** Who authenticated. */
  user?: string;
  envid?: string;
  /** On a report of ours: the message it is about. */
  original_queue_id?: string;
  /** With TLS only: version, cipher, and whether the client's certificate was verified. */
  tls_version?: string;
  tls_cipher?: string;
  tls_verified?: boolean;
  /** From MAIL to the end of data. */
  reception_ms?: number;
  /** From the end of data until the message was durable and this line was made. */
  persist_ms: number;
}

interface RecipientEvent extends Common, AttributeFields {
  queue_id: string;
  recipient: string;
  sender: string;
  message_id?: string;
  user?: string;
  envid?: string;
  /** A domain, 'smarthost', or 'via:HOST:PORT' where an operator rerouted it. */
  destination: string;
  /** Attempts made, this one included. */
  attempt: number;
  size_bytes: number;
  /** Enhanced status code: 2.x.x delivered, 4.x.x deferred, 5.x.x bounced and expired. */
  status: string;
  /** The peer's last reply, '250 2.0.0 queued'. */
  reply?: string;
  /** Who gave it, or was asked last. */
  peer_host?: string;
  peer_address?: string;
  peer_port?: number;
  /** Our address of that connection. */
  source_address?: string;
  /** From acceptance to the start of this attempt. */
  queue_ms: number;
  /** Until the connection was ready; 0 when an open one was used. */
  connect_ms: number;
  /** From MAIL to the peer's final reply. */
  transfer_ms: number;
  /** With TLS only: version, cipher, and whether the peer's certificate was verified. */
  tls_version?: string;
  tls_cipher?: string;
  tls_verified?: boolean;
}

/** The next hop accepted the message. Final. */
export interface DeliveredEvent extends RecipientEvent {
  type: 'delivered';
}

/** What the reply means (docs/replies.md); only with a reply that refuses. */
interface RefusedEvent extends RecipientEvent {
  class?: ReplyClass;
  scope?: ReplyScope;
  move?: ReplyMove;
  /** The id of the rule that says so; absent for the class unknown. */
  rule?: string;
}

/** The recipient stays in the queue. */
export interface DeferredEvent extends RefusedEvent {
  type: 'deferred';
  reason: DeferralReason;
  detail: string;
  retry_at: string;
}

/** The recipient failed for good, or was never tried because it is on the suppression list, or a rule discards it; a DSN goes to the sender unless NOTIFY or a null reverse-path forbids it. Final. */
export interface BouncedEvent extends RefusedEvent {
  type: 'bounced' | 'expired' | 'suppressed' | 'discarded';
  reason: BounceReason;
  detail: string;
}

/** What a line about an entry of the queue says of its message. */
interface EntryEvent extends Common {
  queue_id: string;
  destination: string;
  sender: string;
  message_id?: string;
}

/** The entry waits for an operator: "queue release" lets it go on. One line an entry. */
export interface HeldEvent extends EntryEvent, AttributeFields {
  type: 'held';
  reason: string;
  /** Of `egress.routing`, where one holds it; and how many recipients. */
  rule?: string;
  recipients?: number;
}

/** An operator took the recipient out of the queue. Final. */
export interface RemovedEvent extends EntryEvent {
  type: 'removed';
  recipient: string;
  by: string;
}

/** A limit that was learned, that a plan or a rule sets, is another one now. */
export interface LimitChangedEvent extends Common {
  type: 'limit_changed';
  by: 'adaptive' | 'learned' | 'warmup' | 'rule';
  cause: string;
  /** What it is for: `source`, `return_path_domain`, `tenant`, `campaign`, `provider`. */
  scope: string;
  value: string;
  site: string;
  /** null: no limit. */
  messages_per_s?: number | null;
  messages_per_s_before?: number | null;
  connections?: number | null;
  connections_before?: number | null;
  /** Learned of how connections end. */
  messages_per_connection?: number | null;
  messages_per_connection_before?: number | null;
  /** Nothing goes before. */
  closed_until?: string;
  /** Of a warm-up: the plan of the day, and the step it is, from 1. */
  messages_per_day?: number | null;
  step?: number;
  /** Of a rule. */
  rule?: string;
  action?: string;
  pool?: string;
  ends_at?: string;
  matched?: number;
  of?: number;
  /** How many refusals there were since the change before. */
  refusals?: number;
  /** The last of them, or what an operator said. */
  reply?: string;
  /** true: `adaptive.mode` is observe, so it holds nothing back. */
  observed?: boolean;
}

/** Something about a source that mail leaves from is otherwise now. */
export interface SourceStateEvent extends Common {
  type: 'source_state';
  source: string;
  /** suspended: nothing leaves from it. */
  state: 'usable' | 'suspended';
  /** What was looked at (docs/egress.md), and whether it is as it should be. */
  check: string;
  ok: boolean;
  detail: string;
}

/** What a report that came to a return path is about (docs/bounces.md). */
interface ReportedEvent extends Common {
  /** '': not known. */
  queue_id: string;
  matched_by: 'token' | 'message_id' | 'feedback_id' | 'nothing';
  /** Number of the recipient in its message, from 0. */
  recipient_index?: number;
  recipient?: string;
  /** Whether the token was made for mail to this recipient. */
  proven: boolean;
  tenant?: string;
  campaign?: string;
  message_id?: string;
  feedback_id?: string;
}

/** A report says that mail failed which a host had taken. */
export interface AsyncBouncedEvent extends ReportedEvent {
  type: 'async_bounced';
  status?: string;
  reply?: string;
  peer_host?: string;
  class?: ReplyClass | 'unparsed';
  scope?: ReplyScope;
  rule?: string;
}

/** A recipient complained. */
export interface ComplainedEvent extends ReportedEvent {
  type: 'complained';
  /** The type of RFC 5965: `abuse`, `fraud` … */
  feedback: string;
}

/** Lines that could not be written (disk full). */
export interface DroppedEvent extends Common {
  type: 'dropped';
  lines: number;
}

export type DeliveryEvent =
  | AcceptedEvent
  | DeliveredEvent
  | DeferredEvent
  | BouncedEvent
  | RemovedEvent
  | HeldEvent
  | LimitChangedEvent
  | SourceStateEvent
  | AsyncBouncedEvent
  | ComplainedEvent
  | DroppedEvent;
