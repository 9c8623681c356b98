/** What a drain lane is given, and what it asks of the journal. */
import type { Log } from '../base/log.ts';
import type { CommitBatch, CommitResult, JournalMark, OutboxPlan } from '../database/database.ts';
import type { Message } from '../mail/message.ts';
import type { ReadBack, ReadTask, Waiting } from './tasks.ts';

/** A message on its way to its shard. The lane owns the reference on its content. */
export interface Draining {
  seq: number;
  message: Message;
  /** The outbox rows of the message; filled in just before its commit. */
  plan: OutboxPlan[];
}

export interface LanePorts {
  /** Asks the shard how far it is, and for the name of its queue. */
  mark(shard: number): Promise<{ mark: JournalMark; queue: string }>;
  /** Tells the journal how far the shard is. @throws RelayError when the queue is not the one it drained to before. */
  begin(shard: number, mark: JournalMark, queue: string): Promise<Waiting>;
  read(task: ReadTask): Promise<ReadBack>;
  commit(batch: CommitBatch): Promise<CommitResult>;
  plan(entry: Draining): void;
  /** The message is in the shard. The lane keeps the reference on its content. */
  drained(entry: Draining, leaseUntilMs: number): void;
  cancel(plan: OutboxPlan[]): void;
  release(content: number): void;
  /** How many messages of 64 KiB may still stay in memory. */
  room(): number;
  /** Counts a message as held in memory, until `gone`. */
  kept(message: Message): void;
  gone(message: Message): void;
  /**
   * How long to rest after a transfer, in multiples of its duration. @param oldestMs when the first message that
   * waits was received.
   */
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
  /** The first number of this life. */
  firstSeq: number;
  waiting: Waiting;
  leaseMs: number;
  log: Log;
}
