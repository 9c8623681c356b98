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

/** Messages to append, by column. */
export interface AppendTask {
  kind: 'append';
  metas: string[];
  contents: number[];
  shards: number[];
  /** Records acknowledged with 451 after all: pairs of number and shard. */
  withdrawals: number[];
}

export interface ReadTask {
  kind: 'read';
  shard: number;
  /** Only later records of the shard, and these earlier ones. */
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
  /** A shard says how far it is: what is left for it? */
  | { kind: 'begin'; shard: number; mark: Mark }
  | { kind: 'passed'; marks: [number, Mark][]; save: boolean }
  | { kind: 'compact' }
  | { kind: 'remember'; slot?: JournalState['slot']; queues?: JournalState['queues'] }
  /** remove: nothing waits, and nothing will come. */
  | { kind: 'close'; remove: boolean };

/** Where in the journal reading goes on. */
export interface Position {
  segment: number;
  at: number;
  /** Of the segment: a compacted one is read from its beginning. */
  generation: number;
}

/** What waits for one shard. */
export interface Waiting {
  records: number;
  bytes: number;
  /** When the first of them was received. */
  oldestMs: number | null;
}

/** Records that cannot be read any more, or might not. */
export interface Lost {
  segment: string;
  at: number;
  bytes: number;
  records: number;
  /** Where it is known. */
  queueId: string | null;
  reversePath: string | null;
}

export interface Opened {
  state: JournalState;
  bytes: number;
  /** The numbers of records of this life begin here. */
  firstSeq: number;
  waiting: [number, Waiting][];
  newestQueueId: string | null;
  lost: Lost[];
  /** Bytes at the end that no acknowledgement was given for. */
  tailBytes: number;
}

export interface Appended {
  /** The i-th message has firstSeq + i, whether it was taken or not. */
  firstSeq: number;
  position: Position;
  /** Its session had given up before. */
  withdrawn: number[];
  /** Its session gave up meanwhile: the record is to be voided. */
  abandoned: number[];
  bytes: number;
}

export interface ReadBack {
  entries: { seq: number; meta: string; content: number }[];
  lost: Lost[];
  /** Records passed over: withdrawals, what they void, and what is lost. */
  passed: number[];
  /** All records of the shard up to this one were looked at. */
  upTo: number;
  next: Position | null;
  /** Nothing more is there now. */
  end: boolean;
  /** The arena had no room for more. */
  short: boolean;
}

export interface Passed {
  bytes: number;
  segments: number;
  /** Segments hold mostly what was drained: worth a `compact`. */
  compactable: boolean;
}

export interface JournalResults {
  open: Opened;
  append: Appended;
  read: ReadBack;
  begin: Waiting;
  passed: Passed;
  /** false: there was nothing to compact, or it is done. */
  compact: boolean;
  remember: null;
  close: null;
}

export type JournalAnswer =
  | { value: JournalResults[JournalTask['kind']]; fault: null }
  | { value: null; fault: { code: ErrorCode; message: string } };

export function toFault(error: unknown): { code: ErrorCode; message: string } {
  if (error instanceof RelayError) return { code: error.code, message: error.message };
  return { code: 'storage-failed', message: (error as Error).stack ?? String(error) };
}

export const fromFault = ({ code, message }: { code: ErrorCode; message: string }): RelayError =>
  new RelayError(code, message);
