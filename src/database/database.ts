import type { BegunRow } from '../mail/begun-slots.ts';
import type { EntryFacts, Job } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import type { OperateAction } from '../mail/operator-action.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import type { Counted, CountKey } from '../mail/queue-counts.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import type { Selection as SelectionOf } from '../mail/selection.ts';
import type { SuppressionAnswers, SuppressionAsk, SuppressionOrder } from '../mail/suppression.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { SuspectMark } from '../mail/suspicion.ts';
import type { FailedLimits } from './kept-failed.ts';

/** Which rows, or recipients in them, an operator means. */
export type Selection = SelectionOf<OutboxState>;

/** Fate of a recipient. */
export type RecipientStatus = 'waiting' | 'delivered' | 'bounced' | 'removed';

/** What one outbox row of a message to commit shall look like. */
export interface OutboxPlan {
  destination: string;
  /** Indexes into message.envelope.recipients. */
  seqs: number[];
  /**
   * SENDING: this node delivers it from memory after the commit; PENDING: it waits for a claim; HELD: for an operator.
   */
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

/** How a group of recipients ended, or why it waits; without what only events need. */
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
  /** Due time of the row when recipients still wait; null when all are settled. */
  retryAtMs: number | null;
  delayNotified: boolean;
  /** Entries of the suppression list that the outcomes call for: written in the same transaction. Absent: none. */
  suppressed?: SuppressionOrder[];
}

/** Whoever writes the suppression list tells of an entry before it is durable (feedback/suppression-filter.ts). */
export interface SuppressionNotes {
  /** false: surely no entry has this hash. */
  mayHold(hash: number): boolean;
  add(hash: number): void;
}

/** One table of the suppression list: a queue's file, or a shard. */
export interface SuppressionTable {
  suppression<A extends SuppressionAsk>(ask: A): Promise<SuppressionAnswers[A['op']]>;
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
  /** Batches of one lane follow one another; those of different lanes may overtake each other. Absent: 0. */
  lane?: number;
  /**
   * Present when the messages come out of a journal: they were acknowledged long ago, and are taken over exactly once.
   */
  journal?: JournalTransfer;
}

/** How far a shard has taken over a journal: all records up to `seq`, except those that are `pending`. */
export interface JournalMark {
  seq: number;
  pending: number[];
}

export interface JournalTransfer {
  /** Name of the journal. */
  journal: string;
  /** Numbers of the messages, in order. Messages that the shard has already are not inserted again. */
  seqs: number[];
  /** The mark once these messages are inserted. */
  mark: JournalMark;
}

export interface CommitResult {
  /**
   * Per message: 'committed', or 'withdrawn' when its session had given up before the transaction began. A DSN is
   * 'withdrawn' when its settlement was rejected.
   */
  messages: ('committed' | 'withdrawn')[];
  /**
   * Per settlement: false when the fencing number was stale, and the result was rejected; null when another transaction
   * has locked the row or its mail: nothing was written, and it is to be tried again.
   */
  settlements: (boolean | null)[];
  /** Withdrawals to be tried again, because a row is locked, or leased by a claim. */
  withdrawLater?: string[];
}

/** How long settled rows are kept for inspection; 0: not at all. */
export interface KeepTimes {
  keepDeliveredMs: number;
  keepFailedMs: number;
}

export interface DestinationBacklog {
  destination: string;
  /** Rows that wait (PENDING or RETRY). */
  rows: number;
  /** Due time of the earliest of them. */
  nextDueMs: number;
}

export interface ClaimRequest {
  destination: string;
  limit: number;
  /** Most recipients in all claimed rows together (at least one row is claimed). */
  maxRecipients: number;
  nowMs: number;
  leaseUntilMs: number;
  /** One bit for each shard to ask; absent: all. */
  shards?: number;
  /** Only rows of messages that were received before. */
  receivedBeforeMs?: number;
  /** false: leave rows whose lease has ended to their owners for now. */
  takeOver?: boolean;
}
export interface ClaimResult {
  /** Content already loaded into the arena. Fewer than asked when nothing more is due or the arena is short of room. */
  jobs: Job[];
  /** Rows that were set aside, because the node that was sending them died of them. */
  held?: EntryFacts[];
  /** Number of other rows that waited and were set aside: their content can never be read. Absent: none. */
  asideRows?: number;
  /** Due time of the next waiting row of the destination; null when there is none. */
  nextDueMs: number | null;
  /** Whether the arena was short of room for more. */
  short: boolean;
  /** Where there are shards: nextDueMs of each shard in the request. */
  shards?: ShardDue[];
}

export interface ShardDue {
  shard: number;
  nextDueMs: number | null;
}

/** Work that waits at a destination in one shard. */
export interface ShardBacklog extends DestinationBacklog {
  shard: number;
}

/** A row this process is sending. */
export interface LeasedKey {
  queueId: string;
  destination: string;
}

export interface ReleasedRow extends LeasedKey {
  fence: number;
  reason: string;
}

export interface Recovered {
  released: number;
  rekeyed: number;
  newestQueueId: string | null;
}

/** A row that was being attempted when a process died. */
export interface SuspectedRow extends EntryFacts {
  /** true: it was being sent alone, so it is set aside. */
  held: boolean;
}

/** What earlier lives of this process left under way, by shard. */
export interface BegunRows {
  of(shard: number): BegunRow[];
  /** The shard has written the suspicion into these rows. */
  marked(shard: number, rows: SuspectedRow[]): void;
  /** These rows were set aside, because another node died of them. */
  held(rows: EntryFacts[]): void;
}

/** Results of earlier lives of this process that no database has taken. */
export interface KeptResults {
  /**
   * Writes the results of one shard. @throws RelayError when that fails for now; until it succeeds nothing of the
   * shard may be claimed.
   */
  replay(shard: number, commit: Database['commit']): Promise<void>;
}

/** A relay process asks for a number of its own among all that share the queue: part of the queue ids it makes. */
export interface NodeSlot {
  slot: number;
  /** The same process over its restarts. */
  node: string;
  nowMs: number;
  /** A holder of the slot that was last seen before this time has lost it. */
  staleBeforeMs: number;
}

/**
 * Asks for rows in order of queue id. All rows of a mail are on one page, so a page may exceed `limit` by the rest of
 * its last mail.
 */
export interface QueueFilter {
  /** Absent: all rows. */
  selection?: Selection;
  limit: number;
  afterQueueId?: string;
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
  /** Of destinations at which it waits: how many recipients of other mail there are due before (queue-place.ts). */
  before: Record<string, number>;
}
export type { OperateAction };
/** Waiting recipients of an entry that were removed; each gets one event (I2). */
export interface RemovedEntry extends EntryFacts {
  recipients: string[];
}
/** What one transaction of an action changed. */
export interface OperatePart {
  /** As in OperateResult. */
  changes: RowChange[];
  removed: RemovedEntry[];
}
export interface OperateResult {
  rows: number;
  /** Recipients who were removed, or wait in these rows. */
  recipients: number;
  /** Number of rows meant that are being sent: they are left alone. */
  sending: number;
  /** Their messages. */
  sendingIds: string[];
  /** When messages were named: those of which rows were changed. */
  queueIds: string[];
  /** By how many the waiting rows of each destination have grown or shrunk. */
  changes: RowChange[];
  /** Where to go on; null: all is done. */
  next: string | null;
}
/** A part of an action. */
export interface OperateBounds {
  /** '' to begin, else `next` of the part before. */
  after: string;
  /** The part ends at the first opportunity after this time. */
  forMs: number;
}
export interface RowChange {
  destination: string;
  rows: number;
}
/** The rules of a shard; null: the same as in the answer with that digest. */
export type RulesAnswer = { digest: string; rules: SuspensionRule[] } | null;
/** A part of the queue that an answer leaves out, because it cannot be seen. */
export interface Missing {
  kind: 'shard' | 'process' | 'journal' | 'results';
  name: string;
  /** Why it cannot be seen, and what it holds, where that is known. */
  detail: string;
  /** Numbers of the shards whose queue ids are concerned; absent: any may be. */
  shards?: number[];
}

/**
 * The queue database: one sqlite file written by one persistence thread, or a server, or several of them (shards)
 * reached over pools of connections. The messages, settlements and withdrawals of one commit are all of one shard.
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
   * Destinations with due rows of which this node may not know: other nodes inserted them, or their lease ended
   * without a word from its owner. `rows` is only known to be at least 1.
   */
  due(nowMs: number): Promise<DestinationBacklog[]>;
  /**
   * At start: rows left SENDING by our own earlier life become PENDING again; rows whose destination no longer
   * fits the route table are keyed anew. Returns how many of each.
   */
  recover(nowMs: number): Promise<Recovered>;
  /**
   * To be called before `recover`, and not twice: marks rows that a process was attempting when it died as suspects. A
   * row that was being sent alone is set aside.
   */
  suspect(rows: BegunRow[], nowMs: number): Promise<SuspectedRow[]>;
  /** Writes down, before suspected rows are sent, whether each is sent alone or in company (mail/suspicion.ts). */
  markSuspects(rows: SuspectMark[]): Promise<void>;
  /** Extends the leases of rows this process is still sending. Returns how many of them it still had. */
  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number>;
  /** Gives rows back (failed hand-off, shutdown): SENDING → PENDING, where their fence still holds. */
  release(rows: ReleasedRow[], nowMs: number): Promise<void>;
  /**
   * Drops settled rows past their time (keep_*_ms), and failed ones beyond `keep`, the oldest first: at most `limit` mails
   * a call. Sweeps content without a mail.
   */
  purge(nowMs: number, limit: number, keep?: FailedLimits): Promise<number>;

  list(filter: QueueFilter): Promise<QueueRow[]>;
  /** The same as lines of text (queue-lines.ts). */
  lines(filter: QueueFilter): Promise<string[]>;
  /** How much a selection means; with `by` also for each value of that key. */
  count(selection: Selection, by: CountKey | null): Promise<Counted>;
  show(queueId: string): Promise<MailDetail | null>;
  /** Trace and content as one stream of parts, for `queue cat`. */
  content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null>;
  stats(): Promise<QueueStats>;
  /** An operator's action on rows that are not SENDING. */
  operate(
    action: OperateAction,
    selection: Selection,
    nowMs: number,
    /** Is told of each part once it is durable. A part counts even when a later one fails. */
    done?: (part: OperatePart) => void,
    /** Absent: all of it. */
    bounds?: OperateBounds,
  ): Promise<OperateResult>;

  /** The parts of the queue that cannot be seen now, which answers leave out. Absent where the queue has no parts. */
  missing?(): Missing[];

  close(): Promise<void>;
}
