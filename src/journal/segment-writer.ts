/**
 * Writes the frames of one segment, past the page cache where the file system can (O_DIRECT): mail is mostly drained
 * from memory, so a cached copy is of no use. When `append` returns, its records are on stable storage. After a write
 * or fsync has failed, the segment is not written again: nobody knows what the disk holds then.
 */
import { readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { JournalDisk } from './disk.ts';
import {
  BLOCK_BYTES,
  blocks,
  encodeFrameHead,
  encodeRecordHead,
  encodeSegmentHead,
  encodeTrailer,
  FRAME_HEAD_BYTES,
  frameBytes,
  RECORD_HEAD_BYTES,
  type RecordHead,
  type RecordKind,
  recordBytes,
  type SegmentHead,
  TRAILER_BYTES,
} from './format.ts';

/** How many bytes are gathered for one write. */
const STAGE_BYTES = 1_048_576;

/** Bytes in an open file, which the caller keeps. */
export interface FileRange {
  fd: number;
  offset: number;
}

export interface NewRecord {
  kind: RecordKind;
  shard: number;
  seq: number;
  meta: string;
  contentBytes: number;
  /** In memory, or in a file. */
  content: readonly Buffer[] | FileRange;
}

export const headOf = ({ kind, shard, seq, meta, contentBytes }: NewRecord): RecordHead => ({
  kind,
  shard,
  seq,
  metaBytes: Buffer.byteLength(meta),
  contentBytes,
});

/** Gathers bytes in memory and writes them in whole blocks; shared by the segments of a journal. */
export class Stage {
  readonly bytes: Buffer;
  used = 0;
  readonly disk: JournalDisk;
  #fd = -1;
  #offset = 0;

  /** @param allocate makes a buffer that begins at a memory page. */
  constructor(disk: JournalDisk, allocate: (bytes: number) => Buffer) {
    this.disk = disk;
    this.bytes = allocate(STAGE_BYTES);
  }

  begin(fd: number, offset: number): void {
    this.#fd = fd;
    this.#offset = offset;
    this.used = 0;
  }

  /** Makes room for this many bytes in one piece. */
  room(bytes: number): void {
    if (this.used + bytes > this.bytes.length) this.#flush(this.used - (this.used % BLOCK_BYTES));
  }

  copy(view: Buffer): void {
    for (let at = 0; at < view.length; ) {
      if (this.used === this.bytes.length) this.#flush(this.used);
      const count = Math.min(view.length - at, this.bytes.length - this.used);
      this.bytes.set(view.subarray(at, at + count), this.used);
      this.used += count;
      at += count;
    }
  }

  /** Writes what is left, filled up with zeros to a whole block. */
  finish(): void {
    const padded = blocks(this.used);
    this.bytes.fill(0, this.used, padded);
    this.used = padded;
    this.#flush(padded);
  }

  /** Writes whole blocks; the remainder moves to the front. */
  #flush(bytes: number): void {
    for (let done = 0; done < bytes; ) {
      const count = this.disk.write(this.#fd, this.bytes, done, bytes - done, this.#offset + done);
      // A short write (disk nearly full) ends at a block: the next write from there gets the actual error.
      if (count % BLOCK_BYTES !== 0) throw Object.assign(new Error('short write'), { code: 'ENOSPC' });
      done += count;
    }
    this.#offset += bytes;
    this.bytes.copyWithin(0, bytes, this.used);
    this.used -= bytes;
  }
}

/** Length of a frame's body with these records. */
export function bodyBytesOf(records: readonly NewRecord[]): number {
  let sum = 0;
  for (const record of records) sum += recordBytes(headOf(record));
  return sum;
}

export class SegmentWriter {
  readonly head: SegmentHead;
  readonly path: string;
  /** Where the next frame goes; everything before it is durable. */
  end = BLOCK_BYTES;
  readonly #fd: number;
  readonly #stage: Stage;

  private constructor(fd: number, path: string, head: SegmentHead, stage: Stage) {
    this.#fd = fd;
    this.path = path;
    this.head = head;
    this.#stage = stage;
  }

  /** Makes the file with its head. The file is durable, but its name is not yet. Throws what node:fs throws. */
  static create(path: string, head: SegmentHead, stage: Stage): SegmentWriter {
    try {
      return SegmentWriter.#create(path, head, stage, true);
    } catch (error) {
      // The file system cannot write directly (some report that at open, some at the first write).
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
      return SegmentWriter.#create(path, head, stage, false);
    }
  }

  static #create(path: string, head: SegmentHead, stage: Stage, direct: boolean): SegmentWriter {
    const { disk } = stage;
    const fd = disk.create(path, direct);
    try {
      stage.begin(fd, 0);
      stage.copy(encodeSegmentHead(head));
      stage.finish();
      disk.sync(fd);
    } catch (error) {
      disk.close(fd);
      throw error;
    }
    return new SegmentWriter(fd, path, head, stage);
  }

  /** Writes the records as one frame and makes it durable. Throws what node:fs throws, and leaves `end` as it was. */
  append(records: readonly NewRecord[]): void {
    const { journal, number: segment } = this.head;
    const bodyBytes = bodyBytesOf(records);
    const stage = this.#stage;
    stage.begin(this.#fd, this.end);
    encodeFrameHead(stage.bytes, 0, { journal, segment, records: records.length, bodyBytes });
    stage.used = FRAME_HEAD_BYTES;
    for (const record of records) this.#add(record);
    stage.finish();
    stage.disk.sync(this.#fd);
    this.end += frameBytes({ bodyBytes });
  }

  #add({ kind, shard, seq, meta, contentBytes, content }: NewRecord): void {
    const stage = this.#stage;
    const metaBytes = Buffer.byteLength(meta);
    let metaCrc: number;
    if (metaBytes + RECORD_HEAD_BYTES <= STAGE_BYTES / 2) {
      stage.room(RECORD_HEAD_BYTES + metaBytes);
      encodeRecordHead(stage.bytes, stage.used, { kind, shard, seq, metaBytes, contentBytes });
      stage.used += RECORD_HEAD_BYTES;
      stage.bytes.write(meta, stage.used, 'utf8');
      metaCrc = crc32(stage.bytes.subarray(stage.used, stage.used + metaBytes));
      stage.used += metaBytes;
    } else {
      stage.room(RECORD_HEAD_BYTES);
      encodeRecordHead(stage.bytes, stage.used, { kind, shard, seq, metaBytes, contentBytes });
      stage.used += RECORD_HEAD_BYTES;
      const bytes = Buffer.from(meta, 'utf8');
      metaCrc = crc32(bytes);
      stage.copy(bytes);
    }
    const contentCrc = this.#addContent(content, contentBytes);
    stage.room(TRAILER_BYTES);
    encodeTrailer(stage.bytes, stage.used, metaCrc, contentCrc);
    stage.used += TRAILER_BYTES;
  }

  #addContent(content: NewRecord['content'], contentBytes: number): number {
    let crc = 0;
    let bytes = 0;
    if ('fd' in content) {
      for (const block of blocksOf(content, contentBytes)) {
        crc = crc32(block, crc);
        bytes += block.length;
        this.#stage.copy(block);
      }
    } else
      for (const view of content) {
        crc = crc32(view, crc);
        bytes += view.length;
        this.#stage.copy(view);
      }
    if (bytes !== contentBytes) throw new Error(`content of ${bytes} bytes, said to be ${contentBytes}`);
    return crc;
  }

  /** Tries to remove what a failed append left behind `end`. */
  cut(): void {
    this.#stage.disk.truncate(this.#fd, this.end);
    this.#stage.disk.sync(this.#fd);
  }

  close(): void {
    this.#stage.disk.close(this.#fd);
  }
}

function* blocksOf({ fd, offset }: FileRange, bytes: number): Generator<Buffer> {
  const block = Buffer.allocUnsafe(Math.min(bytes, 262_144));
  for (let done = 0; done < bytes; ) {
    const got = readSync(fd, block, 0, Math.min(block.length, bytes - done), offset + done);
    if (got === 0) return;
    done += got;
    yield block.subarray(0, got);
  }
}
