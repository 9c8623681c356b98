/** What the main thread asks of the persistence pool, and how faults come back. */

import { type ErrorCode, RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import type { Band } from '../database/bands.ts';
import type {
  ClaimRequest,
  ClaimResult,
  CommitResult,
  DestinationBacklog,
  JournalMark,
  LeasedKey,
  MailDetail,
  NodeSlot,
  OperateAction,
  QueueFilter,
  Recovered,
  ReleasedRow,
  RulesAnswer,
  Selection,
  SuspectedRow,
} from '../database/database.ts';
import type { FailedLimits, FailedMark, FailedSlice } from '../database/kept-failed.ts';
import type { ListSlice } from '../database/select-rows.ts';
import type { OperateSlice } from '../database/slices.ts';
import type { BegunRow } from '../mail/begun-slots.ts';
import type { CountKey, CountSlice } from '../mail/queue-counts.ts';
import type { QueueFile, StatsSlice } from '../mail/queue-stats.ts';
import type { SuppressionAnswer, SuppressionAsk } from '../mail/suppression.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { SuspectMark } from '../mail/suspicion.ts';
import type { Wire } from '../mail/wire.ts';
import type { ResultWire } from './batch-wire.ts';

/** What a thread of the pool is started with. */
export interface PersistenceStart {
  /** Its paths are absolute. */
  config: Config;
  /** The arena of the process. */
  arena: SharedArrayBuffer;
  spillDir: string;
  /** 'node#life': names this process in leases and commits of servers. */
  owner?: string;
  /** The file of feedback/suppression-filter.ts. */
  suppressionFilter?: string;
  /** Connections to one server that a thread of the pool may have. */
  connections?: number;
}

export type Task =
  | { kind: 'commit'; batch: Wire }
  | { kind: 'fate'; token: string }
  | { kind: 'claim'; request: ClaimRequest; owner: string }
  | { kind: 'unclaim'; owner: string; nowMs: number }
  | { kind: 'renew'; rows: LeasedKey[]; leaseUntilMs: number }
  | { kind: 'due'; nowMs: number }
  | { kind: 'enroll'; slot: NodeSlot }
  | { kind: 'shardsOfUsers'; users: string[] }
  | { kind: 'journalMark'; journal: string }
  | { kind: 'exchangeRules'; news: SuspensionRule[]; digest: string }
  /** file: of another process's queue, instead of ours. */
  | { kind: 'suppression'; ask: SuppressionAsk; file: string | null }
  | { kind: 'ping' }
  | { kind: 'sweep' }
  | { kind: 'backlog' }
  /** fresh: the process begins, and has nothing under way yet. */
  | { kind: 'recover'; nowMs: number; fresh: boolean }
  | { kind: 'suspect'; rows: BegunRow[]; nowMs: number }
  | { kind: 'markSuspects'; rows: SuspectMark[] }
  | {
      kind: 'release';
      rows: ReleasedRow[];
      nowMs: number;
    }
  | { kind: 'purge'; nowMs: number; limit: number; cut: FailedMark | null }
  | { kind: 'failed'; left: FailedLimits; before: FailedMark | null }
  | { kind: 'lines'; filter: QueueFilter }
  | { kind: 'count'; selection: Selection; by: CountKey | null; after: string }
  | { kind: 'show'; queueId: string }
  | { kind: 'content'; queueId: string; offset: number; maxBytes: number }
  | { kind: 'stats'; after: string; nowMs: number }
  | {
      kind: 'operate';
      action: OperateAction;
      selection: Selection;
      nowMs: number;
      after: string;
      within: Band | null;
    }
  | { kind: 'checkpoint' }
  | { kind: 'compact' }
  | { kind: 'close' };

export interface TaskResults {
  commit: ResultWire | null;
  fate: CommitResult | null;
  claim: ClaimResult;
  unclaim: number;
  renew: number;
  due: DestinationBacklog[];
  enroll: boolean;
  shardsOfUsers: (string | null)[];
  journalMark: { mark: JournalMark; queue: string };
  exchangeRules: RulesAnswer;
  suppression: SuppressionAnswer;
  ping: null;
  sweep: number;
  backlog: DestinationBacklog[];
  recover: Recovered;
  suspect: SuspectedRow[];
  markSuspects: null;
  release: null;
  purge: number;
  failed: FailedSlice;
  lines: ListSlice<string>;
  count: CountSlice;
  show: MailDetail | null;
  content: Uint8Array | null;
  stats: StatsSlice;
  operate: OperateSlice;
  checkpoint: null;
  compact: boolean;
  close: null;
}

/** A RelayError as its parts, because classes do not survive the way between threads. */
export interface FaultWire {
  code: ErrorCode;
  message: string;
}

export interface Answer {
  value: unknown;
  fault: FaultWire | null;
  /** Number of messages held where database.max_messages limits it; else 0. */
  mails: number;
  /** About how many bytes were written to the database's log since the last checkpoint. */
  logBytes: number;
  /** null: the queue is on a server or not open, or its file is as it was when this thread answered before. */
  file: QueueFile | null;
}

export function toFault(error: unknown): FaultWire {
  if (error instanceof RelayError) return { code: error.code, message: error.message };
  return {
    code: 'database_refused',
    message: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}

export function fromFault(fault: FaultWire): RelayError {
  return new RelayError(fault.code, fault.message);
}
