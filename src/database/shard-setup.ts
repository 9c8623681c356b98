/** What ShardedDatabase, several queue databases as one, is made of. */
import type { Log } from '../base/log.ts';
import type { SuppressionAnswers, SuppressionAsk } from '../mail/suppression.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type {
  BegunRows,
  Database,
  JournalMark,
  KeptResults,
  NodeSlot,
  Recovered,
  RulesAnswer,
} from './database.ts';
import type { NodeClaim } from './shard-claim.ts';

/** One shard, whose work the persistence pool does. */
export interface ShardClient extends Omit<Database, 'recover' | 'close' | 'list'> {
  /** Number of tasks under way; each has a connection, or waits for one. */
  readonly running: number;
  recover(nowMs: number, fresh: boolean): Promise<Recovered>;
  enroll(slot: NodeSlot): Promise<boolean>;
  shardsOfUsers(users: string[]): Promise<(string | null)[]>;
  journalMark(journal: string): Promise<{ mark: JournalMark; queue: string }>;
  exchangeRules(news: SuspensionRule[], digest: string): Promise<RulesAnswer>;
  suppression<A extends SuppressionAsk>(ask: A): Promise<SuppressionAnswers[A['op']]>;
  ping(): Promise<void>;
}

export interface ShardSetup {
  id: number;
  name: string;
  weight: number;
  maxConnections: number;
  /** An operation that takes longer is a sign that the shard hangs. */
  silenceMs: number;
  client: ShardClient;
  /** null for a command that only looks at the queue. */
  claim?: NodeClaim | null;
  /** How often the claim is renewed. */
  renewClaimMs?: number;
}

/**
 * If a shard's clock differs from ours by more than the first, that is logged; if by more than the second, nothing is
 * claimed there.
 */
export interface ClockLimits {
  warnOffsetMs: number;
  maxOffsetMs: number;
}

export interface ShardedOptions {
  retryDelayMs: number;
  maxRetryDelayMs: number;
  log: Log;
  now?: () => number;
  /** A steady clock; default: `now` where that is given. */
  steady?: () => number;
  clocks?: ClockLimits;
  /**
   * When a shard is back, nodes that send its rows have this long to write results and renew leases. Only then are
   * leases taken over that ended meanwhile.
   */
  takeOverPauseMs?: number;
  /** A shard is back. */
  returned?(shard: number): void;
  /** One bit for each shard that takes new mail. */
  usable(mask: number): void;
  /** What this process's earlier lives had under way; absent: not known. */
  begun?: BegunRows;
  /** Results of earlier lives, to be written before anything else. */
  kept?: KeptResults;
  /** Ends the pool. */
  close(): Promise<void>;
  /** Removes objects no mail of any shard refers to. */
  sweep(): Promise<number>;
}

/** One line of `db shards`. */
export interface ShardReport {
  id: number;
  name: string;
  weight: number;
  up: boolean;
  downSinceMs: number | null;
  errors: number;
  lastError: string;
  latencyMs: number | null;
  freeConnections: number;
  /** null while it is down. */
  mails: number | null;
  waitingRows: number | null;
}
