/**
 * One queue database as its persistence thread sees it: the Database interface with the long reads cut into bounded
 * parts, so that other work goes on between them. One per shard.
 */

import type { BegunRow } from '../mail/begun-slots.ts';
import type { CountKey, CountSlice } from '../mail/queue-counts.ts';
import type { QueueFile, StatsSlice } from '../mail/queue-stats.ts';
import type { SuppressionAnswer, SuppressionAsk } from '../mail/suppression.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { SuspectMark } from '../mail/suspicion.ts';
import type { Band } from './bands.ts';
import type {
  ClaimRequest,
  ClaimResult,
  CommitBatch,
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
} from './database.ts';
import type { FailedLimits, FailedMark, FailedSlice } from './kept-failed.ts';
import type { ListSlice } from './select-rows.ts';
import type { OperateSlice } from './slices.ts';

type Awaitable<T> = T | Promise<T>;

export interface QueueDatabase {
  /** Number of messages held where a limit is set; else 0. */
  readonly mails: number;
  /** About how many bytes were written to the database's log since the last checkpoint; 0 where a server looks after it. */
  readonly logBytes: number;
  commit(batch: CommitBatch): Promise<CommitResult>;
  fate(token: string): Promise<CommitResult | null>;
  claim(request: ClaimRequest, owner: string): Promise<ClaimResult>;
  /** Gives back the rows that a claim leased as `owner`, when its answer was lost. */
  releaseLeases(owner: string, nowMs: number): Awaitable<number>;
  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number>;
  release(rows: ReleasedRow[], nowMs: number): Promise<void>;
  due(nowMs: number): Promise<DestinationBacklog[]>;
  backlog(): Promise<DestinationBacklog[]>;
  recover(nowMs: number): Promise<Recovered>;
  suspect(rows: BegunRow[], nowMs: number): Promise<SuspectedRow[]>;
  markSuspects(rows: SuspectMark[]): Promise<void>;
  enroll(slot: NodeSlot): Promise<boolean>;
  /** Shards of these users in the table user_shards; null for users it does not have. */
  shardsOfUsers(users: string[]): Promise<(string | null)[]>;
  /** How far this database has taken over a journal, and the name of its queue. */
  journalMark(journal: string): Promise<{ mark: JournalMark; queue: string }>;
  /** @param cut of the failed ones, this one and all that are older go. */
  purge(nowMs: number, limit: number, cut: FailedMark | null): Promise<number>;
  /** One bounded part of the walk over what failed (failedCut). */
  failedSlice(left: FailedLimits, before: FailedMark | null): Awaitable<FailedSlice>;
  isReferenced(object: string): Promise<boolean>;
  linesSlice(filter: QueueFilter): Awaitable<ListSlice<string>>;
  countSlice(selection: Selection, by: CountKey | null, after: string): Awaitable<CountSlice>;
  show(queueId: string): Promise<MailDetail | null>;
  content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null>;
  statsSlice(after: string, nowMs: number): Awaitable<StatsSlice>;
  operateSlice(
    action: OperateAction,
    selection: Selection,
    nowMs: number,
    after: string,
    within: Band | null,
  ): Promise<OperateSlice>;
  /** Takes rules that are news, and answers with all there are. */
  exchangeRules(news: SuspensionRule[], digest: string): Promise<RulesAnswer>;
  /** What is asked of its part of the suppression list. */
  suppression(ask: SuppressionAsk): Awaitable<SuppressionAnswer>;
  /** Checks, without changing anything, that rows can be inserted, changed and deleted. */
  ping(): Promise<void>;
  checkpoint(): void;
  /** The file of the queue; null: it is on a server. */
  readonly file: QueueFile | null;
  /** Gives free space of the file back, where mail need not wait long for it. @returns whether it did. */
  compact(): boolean;
  close(): Promise<void>;
}
