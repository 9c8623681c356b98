/** What a drain lane is given, and what it asks of the journal around it. */
import type { Log } from '../base/log.ts';
import type { CommitBatch, CommitResult, JournalMark, OutboxPlan } from '../database/database.ts';
import type { Message } from '../mail/message.ts';
import type { ReadBack, ReadTask, Waiting } from './tasks.ts';

/** A message on its way to its shard. The reference on its content is the lane's. */
export interface Draining {
  seq: number;
  message: Message;
  /** Filled just before its commit. */
  plan: OutboxPlan[];
}

export interface LanePorts {
  /** How far the shard is by its own word, and the name of its queue. */
  mark(shard: number): Promise<{ mark: JournalMark; queue: string }>;
  /** Tells the journal. @throws RelayError when the queue is not the one it drained to before. */
  begin(shard: number, mark: JournalMark, queue: string): Promise<Waiting>;
  read(task: ReadTask): Promise<ReadBack>;
  commit(batch: CommitBatch): Promise<CommitResult>;
  plan(entry: Draining): void;
  /** It is in the shard. The reference on its content stays the lane's. */
  drained(entry: Draining, leaseUntilMs: number): void;
  cancel(plan: OutboxPlan[]): void;
  release(content: number): void;
  /** Messages of 64 KiB that may still stay in memory. */
  room(): number;
  /** Counts a message in memory, or out again. */
  kept(message: Message): void;
  gone(message: Message): void;
  /** Rest after a transfer, as a multiple of what it took. @param oldestMs when the first that waits was received. */
  pace(oldestMs: number | null): number;
  /** The mark moved. */
  passed(shard: number): void;
  now(): number;
  /** Steady time. */
  steady(): number;
  setTimer(fire: () => void, ms: number): void;
}

export interface LaneOptions {
  shard: number;
  name: string;
  journal: string;
  /** Numbers of this life begin here. */
  firstSeq: number;
  waiting: Waiting;
  leaseMs: number;
  log: Log;
}
