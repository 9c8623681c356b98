/**
 * Rewrites a segment that is kept only for a few records (those of a shard that is down), so that they do not keep the
 * room of all others. Numbers and order stay; the new file replaces the old one in one step.
 */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { JournalDisk } from './disk.ts';
import { BLOCK_BYTES, JOURNAL_VERSION, recordBytes } from './format.ts';
import { type Damage, type FoundRecord, SegmentReader } from './segment-reader.ts';
import { headOf, type NewRecord, SegmentWriter, Stage } from './segment-writer.ts';
import { addShare, type Segment } from './segments.ts';

/** How much one step reads or writes; appends wait for a step. */
const STEP_BYTES = 2_097_152;
/** Segments are compacted once the journal is this full. */
const FROM_SHARE = 1 / 2;
/** A segment is compacted only if more than this share of it is no longer needed. */
const DEAD_SHARE = 1 / 2;
const SUFFIX = '.compact';

/** The oldest segment worth compacting; null when none is. Never the newest, which is being written. */
export function worthCompacting(
  segments: readonly Segment[],
  bytes: number,
  maxBytes: number,
  isLive: (segment: Segment, shard: number) => boolean,
): Segment | null {
  if (bytes < maxBytes * FROM_SHARE) return null;
  for (const segment of segments.slice(0, -1)) {
    if (segment.damaged) continue;
    let dead = 0;
    for (const [shard, share] of segment.shares) if (!isLive(segment, shard)) dead += share.bytes;
    if (dead > (segment.end - BLOCK_BYTES) * DEAD_SHARE) return segment;
  }
  return null;
}

/** Deletes files of compactions that were cut off. */
export function removeLeftovers(folder: string, disk: JournalDisk): void {
  for (const name of readdirSync(folder)) if (name.endsWith(SUFFIX)) disk.unlink(join(folder, name));
}

export interface CompactionOptions {
  disk: JournalDisk;
  allocate(bytes: number): Buffer;
}

export class Compaction {
  readonly segment: Segment;
  readonly #path: string;
  readonly #disk: JournalDisk;
  readonly #reader: SegmentReader;
  readonly #found: Generator<FoundRecord | Damage>;
  readonly #writer: SegmentWriter;
  readonly #shares: Segment['shares'] = new Map();
  #over = false;

  constructor(segment: Segment, journal: string, { disk, allocate }: CompactionOptions) {
    this.segment = segment;
    this.#path = segment.path + SUFFIX;
    this.#disk = disk;
    this.#reader = new SegmentReader(segment.path);
    try {
      const head = this.#reader.head() ?? { firstSeq: 0, previousEnd: 0 };
      const { number } = segment;
      this.#writer = SegmentWriter.create(
        this.#path,
        { ...head, version: JOURNAL_VERSION, journal, number },
        new Stage(disk, allocate),
      );
    } catch (error) {
      this.#reader.close();
      throw error;
    }
    this.#found = this.#reader.records(
      { journal, number: segment.number },
      BLOCK_BYTES,
      segment.end,
      () => true,
    );
  }

  /** Does one step. @returns false when the compaction is done. Throws what node:fs throws. */
  step(isLive: (shard: number, seq: number) => boolean): boolean {
    const records: NewRecord[] = [];
    let copied = 0;
    for (let seen = 0; seen < STEP_BYTES && copied < STEP_BYTES; ) {
      const next = this.#found.next();
      if (next.done === true) {
        this.#write(records);
        this.#finish();
        return false;
      }
      const found = next.value;
      if (found.kindOfFind === 'damage' || !found.intact || found.meta === null) {
        // The segment stays as it is, for the operator.
        this.segment.damaged = true;
        this.abandon();
        return false;
      }
      seen += recordBytes(found);
      if (!isLive(found.shard, found.seq)) continue;
      records.push(this.#copy(found, found.meta));
      copied += recordBytes(found);
    }
    this.#write(records);
    return true;
  }

  #copy({ kind, shard, seq, contentAt, contentBytes }: FoundRecord, meta: string): NewRecord {
    const content =
      contentBytes > STEP_BYTES
        ? { fd: this.#reader.fd, offset: contentAt }
        : [Buffer.from(this.#reader.bytes(contentAt, contentBytes))];
    return { kind, shard, seq, meta, contentBytes, content };
  }

  #write(records: readonly NewRecord[]): void {
    if (records.length === 0) return;
    this.#writer.append(records);
    for (const record of records) addShare({ shares: this.#shares }, headOf(record));
  }

  #finish(): void {
    this.#disk.rename(this.#path, this.segment.path);
    this.#disk.syncFolder(dirname(this.segment.path));
    this.segment.end = this.#writer.end;
    this.segment.shares = this.#shares;
    this.segment.generation++;
    this.#close();
  }

  /** Gives up; the segment stays as it is. */
  abandon(): void {
    if (this.#over) return;
    this.#close();
    try {
      this.#disk.unlink(this.#path);
    } catch {
      // The next start removes the file.
    }
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#reader.close();
    this.#writer.close();
  }
}
