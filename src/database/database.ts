import type { Job } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';

/** States of an outbox row (one message × one destination). */
export type OutboxState = 'PENDING' | 'SENDING' | 'SENT' | 'RETRY' | 'DEAD' | 'HELD';

/** Fate of a recipient. */
export type RecipientStatus = 'waiting' | 'delivered' | 'bounced' | 'removed';

/** What one outbox row of a message to commit shall look like. */
export interface OutboxPlan {
  destination: string;
  /** Indexes into message.envelope.recipients. */
  seqs: number[];
  /** SENDING: this node delivers it from memory after the commit; PENDING: whoever claims it; HELD: an operator releases it. */
  state: 'SENDING' | 'PENDING' | 'HELD';
}

export interface CommitMessage {
  message: Message;
  plan: OutboxPlan[];
  /** For a DSN: index of the settlement that called for it. It commits only when that settlement is accepted. */
  settlement?: number;
}

/** Fence of rows inserted as SENDING: what a Job made from memory carries. */
export const FIRST_FENCE = 1;

/** How one recipient group ends or waits, without what only events need. */
export interface SettleGroup {
  seqs: number[];
  kind: 'delivered' | 'deferred' | 'bounced';
  reason: string;
  /** Peer's last reply or our detail, '451 4.7.1 try later (mx1.example.net [192.0.2.1])'. */
  detail: string;
}

export interface Settlement {
  queueId: string;
  destination: string;
  fence: number;
  attempts: number;
  groups: SettleGroup[];
  /** When recipients still wait: due time of the row; null when all are settled. */
  retryAtMs: number | null;
  delayNotified: boolean;
}

/** One group commit: everything that arrived while the last commit ran, in one transaction and one fsync. */
export interface CommitBatch {
  /** Names the batch. Stored with it, so that `fate` can tell what became of an interrupted commit. */
  token: string;
  messages: CommitMessage[];
  settlements: Settlement[];
  /** Queue ids committed earlier but withdrawn since (a 451 went out before the commit was known). */
  withdrawals: string[];
  nowMs: number;
  leaseUntilMs: number;
}

export interface CommitResult {
  /** Per message: 'committed', or 'withdrawn' when its session had given up before the transaction began (for a DSN: when its settlement was rejected). */
  messages: ('committed' | 'withdrawn')[];
  /** Per settlement: false when the fencing number was stale (the result was rejected). */
  settlements: boolean[];
}

export interface DestinationBacklog {
  destination: string;
  /** Rows that wait (PENDING or RETRY). */
  rows: number;
  /** Due time of the earliest. */
  nextDueMs: number;
}

export interface ClaimRequest {
  destination: string;
  limit: number;
  /** Most recipients in all claimed rows together (at least one row is claimed). */
  maxRecipients: number;
  nowMs: number;
  leaseUntilMs: number;
}
export interface ClaimResult {
  /** Content already loaded into the arena. Fewer than asked when nothing more is due or the arena is short of room. */
  jobs: Job[];
  /** Due time of the next waiting row of the destination, null when none. */
  nextDueMs: number | null;
  /** The arena had no room for more. */
  short: boolean;
}

/** Rows in order of queue id. The rows of one mail are never parted, so a page may exceed `limit` by the rest of its last mail. */
export interface QueueFilter {
  state?: OutboxState;
  destination?: string;
  sender?: string;
  recipient?: string;
  limit: number;
  afterQueueId?: string;
}
export interface QueueRow {
  queueId: string;
  destination: string;
  state: OutboxState;
  attempts: number;
  nextAttemptMs: number;
  reversePath: string;
  sizeBytes: number;
  receivedAtMs: number;
  waiting: number;
  reason: string;
  detail: string;
}
export interface MailDetail {
  queueId: string;
  reversePath: string;
  sizeBytes: number;
  receivedAtMs: number;
  clientAddress: string;
  clientHelo: string;
  protocol: string;
  trace: string;
  rows: QueueRow[];
  recipients: {
    seq: number;
    address: string;
    destination: string;
    class: string;
    status: RecipientStatus;
    reason: string;
    detail: string;
  }[];
  attachments: { seq: number; name: string; type: string; sizeBytes: number; offset: number }[];
}
export interface QueueStats {
  rows: Record<OutboxState, number>;
  mails: number;
  contentBytes: number;
  oldestMs: number | null;
  destinations: DestinationBacklog[];
}

/** retry: due now; hold: waits for release; release: due now; delete: its waiting recipients are removed. */
export type OperateAction = 'retry' | 'hold' | 'release' | 'delete';
export type OperateTarget = { queueId: string } | { destination: string } | 'all';
/** Recipients that waited and were removed; one event each (I2). */
export interface RemovedMail {
  queueId: string;
  recipients: string[];
}
/** What one transaction of an action changed. */
export interface OperatePart {
  destinations: string[];
  removed: RemovedMail[];
}
export interface OperateResult {
  rows: number;
  /** rows = 0: nothing waits there any more. */
  destinations: DestinationBacklog[];
}

/**
 * One queue database, written by one persistence thread (sqlite) or a pool of connections (later drivers).
 * All calls are asynchronous in their contract so that network drivers fit; sqlite answers at once.
 * Failures reject with a RelayError whose `temporary` says whether a retry helps.
 */
export interface Database {
  commit(batch: CommitBatch): Promise<CommitResult>;
  /** What became of the newest commit, if it is the one with this token; null when it did not happen. */
  fate(token: string): Promise<CommitResult | null>;
  claim(request: ClaimRequest): Promise<ClaimResult>;
  /** Waiting work by destination, to rebuild the scheduler. */
  backlog(): Promise<DestinationBacklog[]>;
  /**
   * At start: rows left SENDING by our own earlier life become PENDING again; rows whose destination no longer
   * fits the route table are keyed anew. Returns how many of each.
   */
  recover(nowMs: number): Promise<{ released: number; rekeyed: number; newestQueueId: string | null }>;
  /** Gives rows back (failed hand-off, shutdown): SENDING → PENDING with their fence checked. */
  release(
    rows: { queueId: string; destination: string; fence: number; reason: string }[],
    nowMs: number,
  ): Promise<void>;
  /** Drops settled rows past their time (keep_sent_ms, keep_dead_ms) and sweeps content without a mail. At most `limit` mails a call. */
  purge(nowMs: number, limit: number): Promise<number>;

  list(filter: QueueFilter): Promise<QueueRow[]>;
  show(queueId: string): Promise<MailDetail | null>;
  /** Trace and content as one stream of parts, for `queue cat`. */
  content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null>;
  stats(): Promise<QueueStats>;
  /** Operator's hand on rows that are not SENDING; returns the rows changed, and what waits since at their destinations. */
  operate(
    action: OperateAction,
    target: OperateTarget,
    nowMs: number,
    /** Told of each part once it is durable: it counts also when a later one fails. */
    done?: (part: OperatePart) => void,
  ): Promise<OperateResult>;

  close(): Promise<void>;
}
