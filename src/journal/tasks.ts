/** What the main thread asks of the journal's thread, and what it answers. */
import { type ErrorCode, RelayError } from '../base/errors.ts';
import type { JournalMark as Mark } from '../database/database.ts';
import type { JournalState } from './state-file.ts';

export interface JournalStart {
  folder: string;
  maxBytes: number;
  segmentBytes: number;
  /** Longer content is read back as an open file. */
  inMemoryBytes: number;
  arena: SharedArrayBuffer;
  spillDir: string;
}

/** Messages to append, as columns. */
export interface AppendTask {
  kind: 'append';
  metas: string[];
  contents: number[];
  shards: number[];
  /** Records to void, because their clients were answered 451 after all: pairs of number and shard. */
  withdrawals: number[];
}

export interface ReadTask {
  kind: 'read';
  shard: number;
  /** Read only records of the shard after this number, and the earlier ones in `pending`. */
  after: number;
  pending: number[];
  from: Position | null;
  limit: number;
  maxBytes: number;
}

export type JournalTask =
  | { kind: 'open' }
  | AppendTask
  | ReadTask
  /** Tells how far a shard is, and asks what is left for it. */
  | { kind: 'begin'; shard: number; mark: Mark }
  | { kind: 'passed'; marks: [number, Mark][]; save: boolean }
  | { kind: 'compact' }
  | { kind: 'remember'; slot?: JournalState['slot']; queues?: JournalState['queues'] }
  /** remove: nothing waits in the journal and nothing will come, so it is deleted. */
  | { kind: 'close'; remove: boolean };

/** A place in the journal at which reading goes on. */
export interface Position {
  segment: number;
  at: number;
  /** Generation of the segment: if it was compacted since, it is read from its beginning. */
  generation: number;
}

/** What waits for one shard. */
export interface Waiting {
  records: number;
  bytes: number;
  /** When the first of them was received. */
  oldestMs: number | null;
}

/** Records that are lost, or may be. */
export interface Lost {
  segment: string;
  at: number;
  bytes: number;
  records: number;
  /** null where it is not known. */
  queueId: string | null;
  reversePath: string | null;
}

export interface Opened {
  state: JournalState;
  bytes: number;
  /** The first number for records of this life. */
  firstSeq: number;
  waiting: [number, Waiting][];
  newestQueueId: string | null;
  lost: Lost[];
  /** Bytes at the end of the journal that were never acknowledged. */
  tailBytes: number;
}

export interface Appended {
  /** The i-th message has the number firstSeq + i, whether it was taken or not. */
  firstSeq: number;
  position: Position;
  /** Indexes of messages that were not taken, because their session had given up before. */
  withdrawn: number[];
  /** Indexes of messages whose session gave up meanwhile: their records are to be voided. */
  abandoned: number[];
  bytes: number;
}

export interface ReadBack {
  entries: { seq: number; meta: string; content: number }[];
  lost: Lost[];
  /** Numbers of records passed over: withdrawals, the messages they void, and lost records. */
  passed: number[];
  /** All records of the shard up to this number were looked at. */
  upTo: number;
  next: Position | null;
  /** Whether this was the last of what is there now. */
  end: boolean;
  /** Whether the arena had no room for more. */
  short: boolean;
}

export interface Passed {
  bytes: number;
  segments: number;
  /** Whether a segment holds mostly drained records, so that `compact` is worth it. */
  compactable: boolean;
}

export interface JournalResults {
  open: Opened;
  append: Appended;
  read: ReadBack;
  begin: Waiting;
  passed: Passed;
  /** Whether there is more to compact. */
  compact: boolean;
  remember: null;
  close: null;
}

export type JournalAnswer =
  | { value: JournalResults[JournalTask['kind']]; fault: null }
  | { value: null; fault: { code: ErrorCode; message: string } };

export function toFault(error: unknown): { code: ErrorCode; message: string } {
  if (error instanceof RelayError) return { code: error.code, message: error.message };
  return { code: 'storage_failed', message: (error as Error).stack ?? String(error) };
}

export const fromFault = ({ code, message }: { code: ErrorCode; message: string }): RelayError =>
  new RelayError(code, message);
