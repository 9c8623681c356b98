/** What a running relay offers to operators; a stopped one's queue offers the reading. */
import type { MailDetail, Missing, OperateAction, QueueFilter, Selection } from '../database/database.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import type { SourceReport } from '../egress/source-report.ts';
import type { JournalStats } from '../journal/journal.ts';
import type { AskedEntry, Explained } from '../mail/blocker.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import type { Counted, CountKey } from '../mail/queue-counts.ts';
import type { LimitedFile, QueueStats } from '../mail/queue-stats.ts';
import type { SiteReport } from '../mail/site-report.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';
import type { Ban } from '../policy/ban-table.ts';
import type { Counts, Rates } from '../report/minute-rates.ts';
import type { DestinationStanding, Scheduler } from '../scheduler/scheduler.ts';
import type { Ordered, ResumeOrder, SuspendOrder } from '../suspensions/order-book.ts';

/** Reads the queue; the database of a stopped relay offers this much too. */
export interface QueueReader {
  /**
   * Entries in order of queue id, as lines (mail/queue-lines.ts). Those of one message are never parted, so there may be
   * more than the limit.
   */
  lines(filter: QueueFilter): Promise<string[]>;
  count(selection: Selection, by: CountKey | null): Promise<Counted>;
  show(queueId: string): Promise<MailDetail | null>;
  /** Part of trace and content as one stream; an empty array past its end, null when the mail is unknown. */
  content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null>;
  stats(): Promise<QueueStats>;
  /** Parts of the queue that the answers leave out. */
  missing?(): Missing[] | Promise<Missing[]>;
}

export type SchedulerStats = ReturnType<Scheduler['stats']> & {
  /** What errors of ours ended since the start: dialogs with clients, with next hops, and other work of the main thread. */
  faults?: { sessions: number; deliveries: number; others: number };
  /** What keeps all mail in the queue. */
  holds?: HoldsAll[];
  /** Rules of operators that hold mail. */
  rules?: SuspensionRule[];
};

/** `detail` says more where there is more to say; else ''. */
export interface HoldsAll {
  kind: 'delivery_disabled' | 'suspended' | 'draining' | 'database_away' | 'suspensions_unknown';
  detail: string;
}

/** One relay process under the supervisor. */
export interface ProcessStatus {
  process: number;
  /** null while it is not running. */
  pid: number | null;
  /** ready: it serves; silent: it runs but does not answer; waiting: it crashed and starts again after a delay. */
  state: 'starting' | 'ready' | 'silent' | 'waiting' | 'draining' | 'ended';
  /** false: it only empties the queue of a process that the config no longer has. */
  accepts: boolean;
  restarts: number;
  /** When it became ready; null when it is not. */
  readySinceMs: number | null;
  /** Open inbound connections. */
  connections: number;
  rssMb: number;
}

/** What an action did. */
export interface Operated {
  /** Rows that were changed. */
  rows: number;
  /** Recipients who were removed, or wait in these rows. */
  recipients: number;
  /** Rows that were meant too, but were left alone because they are being sent. */
  sending: number;
  /** Where messages were named: those of which rows were changed. */
  queueIds: string[];
  /** Where to go on; null: all is done. */
  next: string | null;
}

/** Bans of the host. */
export interface BanBook {
  list(): Ban[] | Promise<Ban[]>;
  /** @param durationMs null: until it is deleted. */
  add(network: string, durationMs: number | null): Ban | Promise<Ban>;
  /** False when it was not banned. */
  delete(network: string): boolean | Promise<boolean>;
}

/** Rules of operators that hold mail back. */
export interface SuspensionBook {
  list(): SuspensionRule[] | Promise<SuspensionRule[]>;
  suspend(order: SuspendOrder): Promise<Ordered>;
  resume(order: ResumeOrder): Promise<Ordered>;
}

/** What a running relay offers to operators. */
export interface ControlTarget extends QueueReader {
  /** Changes rows that are not on the wire, part by part. @param after '' to begin, then `next` of the part before. */
  operate(action: OperateAction, selection: Selection, after?: string): Promise<Operated>;
  /** The scheduler's figures, for `queue stats`. @param queue those of the queue itself; null: it was not asked. */
  schedulerStats(queue: QueueStats | null): SchedulerStats | Promise<SchedulerStats>;
  /** State of each shard, where the queue lies on servers. */
  shards?(): Promise<ShardReport[]>;
  /** Figures of what is acknowledged but not in the queue yet; null: there is no journal. */
  journal?(): JournalStats | null | Promise<JournalStats | null>;
  /** The addresses that mail leaves from, with what their checks came to. */
  sources?(): SourceReport[] | Promise<SourceReport[]>;
  /** How each process is, for a relay of several. */
  processes?(): ProcessStatus[];
  /** How the relay is. @param counts whether to count the queue. */
  status?(counts: boolean): Promise<RelayStatus>;
  bans?: BanBook;
  suspensions?: SuspensionBook;
  /** What keeps mail for these destinations from going, as far as the relay knows. */
  standing?(destinations: string[]): Standing | Promise<Standing>;
  /** What limits these entries, and keeps them, as far as the relay knows. */
  explain?(entries: AskedEntry[]): Explained[] | Promise<Explained[]>;
  /** The sites that mail goes to, with what went there. */
  sites?(): SiteReport[] | Promise<SiteReport[]>;
  /** Refusals that no rule knew, the most frequent first. */
  unknownReplies?(): Promise<UnknownReply[]>;
}

export interface CountedQueue {
  countedAtMs: number;
  rows: Record<OutboxState, number>;
  messages: Record<OutboxState, number>;
  recipients: Record<OutboxState, number>;
  oldestMs: number | null;
}

/** Of one relay process, since it started. */
export interface ProcessTotals extends Counts {
  process: number;
  faults: NonNullable<SchedulerStats['faults']>;
  /** How long the turn of its main loop took in which this was asked, in seconds. */
  turnS: number;
}

/** A relay process. */
export interface RelayStatus {
  connectionsIn: number;
  connectionsOut: number;
  rates: Rates;
  totals: ProcessTotals[];
  /** What refuses mail (admission/gauges.ts); null: nothing. */
  pressure: string | null;
  /** New connections are refused, too. */
  overloaded: boolean;
  /** null: not known. */
  freeDiskBytes: number | null;
  /** null: not counted yet, or counted by another process. */
  counts: CountedQueue | null;
  scheduler: SchedulerStats;
  journal: JournalStats | null;
  shards: { name: string; up: boolean; error: string }[];
  /** null: the queue is on servers. */
  file: LimitedFile | null;
  /** What the storage of contents cannot use. */
  storageFaults: string[];
}

/** What a running relay knows of why mail waits. */
export interface Standing {
  holds: HoldsAll[];
  /** Rules in force, those of the relay itself among them. */
  rules: SuspensionRule[];
  destinations: DestinationStanding[];
}

/** Most destinations of a message that are asked about. */
export const MAX_STANDINGS = 1000;
