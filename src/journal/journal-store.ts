/**
 * The journal, as its thread owns it. Appends messages and makes them durable with one fsync (I1), reads back what
 * waits for a shard, and drops what all shards have taken over. All calls block. After a write to a segment has
 * failed, that segment is never written again.
 */
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import { makeFolder } from '../base/make-folder.ts';
import type { JournalMark as Mark } from '../database/database.ts';
import { type Arena, CONTENT_STATE, NO_CONTENT } from '../native.ts';
import { Compaction, removeLeftovers, worthCompacting } from './compaction.ts';
import { isFull, type JournalDisk, journalError } from './disk.ts';
import {
  BLOCK_BYTES,
  blocks,
  decodeMeta,
  encodeMeta,
  FRAME_HEAD_BYTES,
  JOURNAL_VERSION,
  RECORD_KIND,
  type RecordHead,
  recordBytes,
} from './format.ts';
import { type FoundRecord, SegmentReader } from './segment-reader.ts';
import { bodyBytesOf, headOf, type NewRecord, SegmentWriter, Stage } from './segment-writer.ts';
import { addShare, lostRecord, type Segment, scanSegments, segmentPath } from './segments.ts';
import { isPassed, type JournalState, NO_MARK, newState, readState, STATE_FILE } from './state-file.ts';
import type { Appended, AppendTask, Opened, Passed, Position, ReadBack, ReadTask, Waiting } from './tasks.ts';

/** How many numbers each start leaves out: if the disk lost the newest records, new mail never gets their numbers. */
const SEQ_GAP = 2 ** 24;

export interface JournalStoreOptions {
  folder: string;
  maxBytes: number;
  segmentBytes: number;
  inMemoryBytes: number;
  arena: Arena;
  disk: JournalDisk;
  /** Makes a buffer that begins at a memory page. */
  allocate(bytes: number): Buffer;
}

export class JournalStore {
  readonly #options: JournalStoreOptions;
  readonly #stage: Stage;
  #state: JournalState = newState();
  readonly #marks = new Map<number, Mark>();
  #segments: Segment[] = [];
  /** null: the next append begins a new segment. */
  #writer: SegmentWriter | null = null;
  #nextSeq = 1;
  #withdrawn = new Set<number>();
  #compaction: Compaction | null = null;
  #opened = false;

  constructor(options: JournalStoreOptions) {
    this.#options = options;
    this.#stage = new Stage(options.disk, options.allocate);
  }

  get bytes(): number {
    let sum = 0;
    for (const { end } of this.#segments) sum += end;
    return sum;
  }

  /** Reads what the life before left. @throws RelayError */
  open(): Opened {
    const { folder, disk } = this.#options;
    try {
      makeFolder(folder, 0o700);
      removeLeftovers(folder, disk);
      const known = readState(folder);
      const scan = scanSegments(folder, known?.journal ?? null);
      this.#state = known ?? { ...newState(), ...(scan.journal === null ? {} : { journal: scan.journal }) };
      if (known === null) this.#save();
      disk.syncFolder(folder);
      this.#segments = scan.segments;
      this.#withdrawn = scan.withdrawn;
      this.#nextSeq = scan.lastSeq + SEQ_GAP;
      for (const [shard, mark] of Object.entries(this.#state.marks)) this.#marks.set(Number(shard), mark);
      this.#drop();
      const shards = new Set(this.#segments.flatMap(({ shares }) => [...shares.keys()]));
      const { newestQueueId, lost, tailBytes } = scan;
      this.#opened = true;
      return {
        state: this.#state,
        bytes: this.bytes,
        firstSeq: this.#nextSeq,
        waiting: [...shards].map((shard) => [shard, this.#waiting(shard)]),
        newestQueueId,
        lost,
        tailBytes,
      };
    } catch (error) {
      throw journalError(error, folder);
    }
  }

  /** Appends messages with their contents. @throws RelayError; then none of them is in the journal. */
  append(task: AppendTask): Appended {
    const { arena, folder } = this.#options;
    const { waiting, committing, committed } = CONTENT_STATE;
    const firstSeq = this.#nextSeq;
    const withdrawn: number[] = [];
    const records: NewRecord[] = [];
    const { metas, contents, shards, withdrawals } = task;
    for (let i = 0; i < metas.length; i++) {
      const content = contents[i] as number;
      // From here on the message is kept unless the write fails. If its session gave up before and answered 451, it
      // is not.
      if (arena.moveState(content, waiting, committing)) {
        const [meta, shard] = [metas[i] as string, shards[i] as number];
        records.push(this.#record(firstSeq + i, shard, meta, content));
      } else withdrawn.push(i);
    }
    for (let i = 0; i < withdrawals.length; i += 2)
      records.push(
        this.#withdrawal(
          firstSeq + metas.length + i / 2,
          withdrawals[i] as number,
          withdrawals[i + 1] as number,
        ),
      );
    let position: Position;
    try {
      position = this.#write(records, metas.length > 0);
    } catch (error) {
      throw journalError(error, folder);
    }
    this.#nextSeq = firstSeq + metas.length + withdrawals.length / 2;
    for (let i = 0; i < withdrawals.length; i += 2) this.#withdrawn.add(withdrawals[i] as number);
    const abandoned: number[] = [];
    for (let i = 0, w = 0; i < metas.length; i++) {
      if (withdrawn[w] === i) w++;
      else if (!arena.moveState(contents[i] as number, committing, committed)) abandoned.push(i);
    }
    return { firstSeq, position, withdrawn, abandoned, bytes: this.bytes };
  }

  #record(seq: number, shard: number, meta: string, content: number): NewRecord {
    const { arena } = this.#options;
    const contentBytes = arena.lengthBytes(content);
    const from = arena.file(content) ?? arena.parts(content);
    return { kind: RECORD_KIND.message, shard, seq, meta, contentBytes, content: from };
  }

  #withdrawal(seq: number, voided: number, shard: number): NewRecord {
    return {
      kind: RECORD_KIND.withdrawal,
      shard,
      seq,
      meta: encodeMeta([voided]),
      contentBytes: 0,
      content: [],
    };
  }

  /** Writes a frame, and returns where it begins. @param bounded whether the journal's limit counts: not for withdrawals. */
  #write(records: readonly NewRecord[], bounded: boolean): Position {
    const { folder, maxBytes, segmentBytes } = this.#options;
    const bytes = blocks(FRAME_HEAD_BYTES + bodyBytesOf(records));
    if (records.length > 0 && bounded && this.bytes + bytes > maxBytes)
      throw new RelayError('storage_full', `journal ${folder} is full (journal.max_mb)`);
    if (this.#writer !== null && this.#writer.end > BLOCK_BYTES && this.#writer.end + bytes > segmentBytes) {
      this.#writer.close();
      this.#writer = null;
    }
    this.#writer ??= this.#newSegment(records[0]?.seq ?? this.#nextSeq);
    const writer = this.#writer;
    const segment = this.#segments.at(-1) as Segment;
    const position = { segment: segment.number, at: writer.end, generation: 0 };
    if (records.length === 0) return position;
    try {
      writer.append(records);
    } catch (error) {
      this.#distrust(writer, error);
      throw error;
    }
    segment.end = writer.end;
    for (const record of records) addShare(segment, headOf(record));
    return position;
  }

  #newSegment(firstSeq: number): SegmentWriter {
    const { folder, disk } = this.#options;
    const last = this.#segments.at(-1);
    const number = (last?.number ?? 0) + 1;
    const path = segmentPath(folder, number);
    const { journal } = this.#state;
    const head = { version: JOURNAL_VERSION, journal, number, firstSeq, previousEnd: last?.end ?? 0 };
    let writer: SegmentWriter;
    try {
      writer = SegmentWriter.create(path, head, this.#stage);
      disk.syncFolder(folder);
    } catch (error) {
      try {
        disk.unlink(path);
      } catch {
        // It was not made, or the disk refuses everything: the next append makes it anew.
      }
      throw error;
    }
    this.#segments.push({ number, path, end: writer.end, shares: new Map(), generation: 0, damaged: false });
    return writer;
  }

  /**
   * A write failed, so nobody knows what the disk holds behind `end`. If the disk was only full, the next frame goes
   * there. After any other fault a new segment begins, which says where this one ends.
   */
  #distrust(writer: SegmentWriter, error: unknown): void {
    if ((error as NodeJS.ErrnoException).code === undefined) return; // our own fault or a content's, not the disk's
    try {
      writer.cut();
      if (isFull(error)) return;
    } catch {
      // The disk failed again.
    }
    writer.close();
    this.#writer = null;
    try {
      // At once, because a crash must not bring back messages that are answered with 451 now.
      this.#writer = this.#newSegment(this.#nextSeq);
    } catch {
      // The next append tries again, and says why.
    }
  }

  /** Reads records that wait for a shard, in order. */
  read({ shard, after, pending, from, limit, maxBytes }: ReadTask): ReadBack {
    const result: ReadBack = {
      entries: [],
      lost: [],
      passed: [],
      upTo: after,
      next: null,
      end: false,
      short: false,
    };
    const first = Math.min(after, ...pending.map((seq) => seq - 1));
    const ours = (r: { shard: number; seq: number }): boolean =>
      r.shard === shard && (r.seq > after || pending.includes(r.seq));
    let bytes = 0;
    for (const segment of this.#segments) {
      const share = segment.shares.get(shard);
      if (share === undefined || (from !== null ? segment.number < from.segment : share.lastSeq <= first))
        continue;
      const start =
        from?.segment === segment.number && from.generation === segment.generation ? from.at : BLOCK_BYTES;
      const reader = new SegmentReader(segment.path);
      try {
        const head = { journal: this.#state.journal, number: segment.number };
        for (const found of reader.records(head, start, segment.end, ours)) {
          if (found.kindOfFind === 'damage') continue;
          if (
            result.entries.length >= limit ||
            bytes >= maxBytes ||
            !this.#take(result, segment, reader, found)
          ) {
            result.next = { segment: segment.number, at: found.frameAt, generation: segment.generation };
            return result;
          }
          bytes += found.contentBytes;
        }
      } catch (error) {
        throw journalError(error, this.#options.folder);
      } finally {
        reader.close();
      }
    }
    const newest = this.#segments.at(-1);
    if (newest !== undefined)
      result.next = { segment: newest.number, at: newest.end, generation: newest.generation };
    result.end = true;
    return result;
  }

  /** Adds a record to the result; false when there is no room for its content. */
  #take(result: ReadBack, segment: Segment, reader: SegmentReader, record: FoundRecord): boolean {
    const isMessage = record.kind === RECORD_KIND.message;
    if (!isMessage || this.#withdrawn.has(record.seq)) result.passed.push(record.seq);
    else if (record.meta === null || !record.intact) {
      segment.damaged = true;
      result.lost.push(lostRecord(segment.path, record));
      result.passed.push(record.seq);
    } else {
      const content = this.#load(segment, reader, record);
      if (content === NO_CONTENT) {
        result.short = true;
        return false;
      }
      result.entries.push({ seq: record.seq, meta: record.meta, content });
    }
    result.upTo = Math.max(result.upTo, record.seq);
    return true;
  }

  #load(segment: Segment, reader: SegmentReader, { contentAt, contentBytes }: FoundRecord): number {
    const { arena, inMemoryBytes } = this.#options;
    if (contentBytes <= inMemoryBytes) return arena.store(reader.bytes(contentAt, contentBytes));
    return arena.storeFile(openSync(segment.path, 'r'), contentAt, contentBytes);
  }

  /** The shard said how far it is. Returns what is left for it. */
  begin(shard: number, mark: Mark): Waiting {
    this.#marks.set(shard, mark);
    return this.#waiting(shard);
  }

  /** Counts what waits for the shard: whole segments where possible; else the heads of their records are read. */
  #waiting(shard: number): Waiting {
    const waiting: Waiting = { records: 0, bytes: 0, oldestMs: null };
    const mark = this.#marks.get(shard) ?? NO_MARK;
    for (const segment of this.#segments) {
      const share = segment.shares.get(shard);
      if (share === undefined || !this.#isLive(segment, shard)) continue;
      const whole = share.firstSeq > mark.seq;
      if (whole) {
        waiting.records += share.messages;
        waiting.bytes += share.bytes;
        if (waiting.oldestMs !== null) continue;
      }
      for (const found of this.#messagesOf(segment, shard, mark)) {
        if (found.meta !== null) waiting.oldestMs ??= decodeMeta(found.meta)[4] as number;
        if (whole && waiting.oldestMs !== null) break;
        if (whole) continue;
        waiting.records++;
        waiting.bytes += recordBytes(found);
      }
    }
    return waiting;
  }

  *#messagesOf(segment: Segment, shard: number, mark: Mark): Generator<FoundRecord> {
    const reader = new SegmentReader(segment.path);
    try {
      const head = { journal: this.#state.journal, number: segment.number };
      const ours = (r: RecordHead): boolean =>
        r.shard === shard && r.kind === RECORD_KIND.message && !isPassed(mark, r.seq);
      for (const found of reader.records(head, BLOCK_BYTES, segment.end, ours))
        if (found.kindOfFind === 'record') yield found;
    } finally {
      reader.close();
    }
  }

  /** Whether a segment holds records that the shard has not taken over. */
  #isLive({ shares }: Segment, shard: number): boolean {
    const share = shares.get(shard);
    const mark = this.#marks.get(shard);
    if (share === undefined) return false;
    if (mark === undefined || share.lastSeq > mark.seq) return true;
    return mark.pending.some((seq) => seq >= share.firstSeq && seq <= share.lastSeq);
  }

  /** Shards have taken over more: deletes segments that no shard needs any more. */
  passed(marks: readonly [number, Mark][], save: boolean): Passed {
    for (const [shard, mark] of marks) this.#marks.set(shard, mark);
    try {
      this.#drop();
      if (save) this.#save();
    } catch (error) {
      throw journalError(error, this.#options.folder);
    }
    const compactable = this.#compaction !== null || this.#worthCompacting() !== null;
    return { bytes: this.bytes, segments: this.#segments.length, compactable };
  }

  /** Deletes segments that no shard needs, except the newest: it carries the numbers on. */
  #drop(): void {
    const { disk } = this.#options;
    const newest = this.#segments.at(-1);
    const kept: Segment[] = [];
    for (const segment of this.#segments) {
      const live = [...segment.shares.keys()].some((shard) => this.#isLive(segment, shard));
      if (live || segment === newest) {
        kept.push(segment);
        continue;
      }
      if (this.#compaction?.segment === segment) this.#endCompaction();
      if (segment.damaged) disk.rename(segment.path, `${segment.path}.damaged`);
      else disk.unlink(segment.path);
    }
    this.#segments = kept;
    const first = kept[0];
    if (first === undefined || this.#withdrawn.size === 0) return;
    let oldest = Number.POSITIVE_INFINITY;
    for (const { shares } of kept)
      for (const { firstSeq } of shares.values()) oldest = Math.min(oldest, firstSeq);
    for (const seq of this.#withdrawn) if (seq < oldest) this.#withdrawn.delete(seq);
  }

  #worthCompacting(): Segment | null {
    const { maxBytes } = this.#options;
    const isLive = (segment: Segment, shard: number): boolean => this.#isLive(segment, shard);
    return worthCompacting(this.#segments, this.bytes, maxBytes, isLive);
  }

  /** Does one bounded step of compaction. @returns whether there is more to do. */
  compact(): boolean {
    try {
      if (this.#compaction === null) {
        const segment = this.#worthCompacting();
        if (segment === null) return false;
        const { journal } = this.#state;
        this.#compaction = new Compaction(segment, journal, this.#options);
      }
      const live = (shard: number, seq: number): boolean => !isPassed(this.#marks.get(shard), seq);
      if (this.#compaction.step(live)) return true;
      this.#compaction = null;
      return this.#worthCompacting() !== null;
    } catch (error) {
      this.#endCompaction();
      throw journalError(error, this.#options.folder);
    }
  }

  #endCompaction(): void {
    this.#compaction?.abandon();
    this.#compaction = null;
  }

  remember(change: Partial<Pick<JournalState, 'slot' | 'queues'>>): void {
    try {
      this.#state = { ...this.#state, ...change };
      this.#save();
    } catch (error) {
      throw journalError(error, this.#options.folder);
    }
  }

  #save(): void {
    const { folder, disk } = this.#options;
    const marks = Object.fromEntries(this.#marks);
    this.#state = { ...this.#state, marks };
    disk.replace(join(folder, STATE_FILE), JSON.stringify(this.#state));
  }

  /** @param remove whether to delete the journal, which is empty and not used any more. */
  close(remove: boolean): void {
    this.#endCompaction();
    this.#writer?.close();
    this.#writer = null;
    if (!this.#opened) return; // the files are not ours to change
    const { folder, disk } = this.#options;
    try {
      this.#save();
      if (!remove) return;
      for (const { path, damaged } of this.#segments)
        if (damaged) disk.rename(path, `${path}.damaged`);
        else disk.unlink(path);
      disk.unlink(join(folder, STATE_FILE));
    } catch (error) {
      throw journalError(error, folder);
    }
  }
}
