/** Reads the records of a segment in order, and skips damage. All calls block. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import {
  BLOCK_BYTES,
  decodeFrameHead,
  decodeRecordHead,
  decodeSegmentHead,
  FRAME_HEAD_BYTES,
  type FrameHead,
  frameBytes,
  RECORD_HEAD_BYTES,
  type RecordHead,
  recordBytes,
  type SegmentHead,
  TRAILER_BYTES,
} from './format.ts';

const AHEAD_BYTES = 262_144;

export interface FoundRecord extends RecordHead {
  kindOfFind: 'record';
  /** Where its frame begins; reading may be resumed there. */
  frameAt: number;
  contentAt: number;
  /** null when damaged. */
  meta: string | null;
  intact: boolean;
}

/** Bytes that hold no record any more. */
export interface Damage {
  kindOfFind: 'damage';
  /** Where the damaged frame begins, or should begin. */
  frameAt: number;
  at: number;
  bytes: number;
  /** How many records are lost with these bytes; 0: not known. */
  records: number;
}

export class SegmentReader {
  readonly path: string;
  readonly sizeBytes: number;
  /** The open file, for reads by others while this reader is open. */
  readonly fd: number;
  #ahead: Buffer = Buffer.alloc(0);
  #aheadAt = 0;

  /** Throws what node:fs throws. */
  constructor(path: string) {
    this.path = path;
    this.fd = openSync(path, 'r');
    this.sizeBytes = fstatSync(this.fd).size;
  }

  /** The head; null when this is no segment, or the head is damaged. */
  head(): SegmentHead | null {
    return decodeSegmentHead(this.bytes(0, BLOCK_BYTES));
  }

  /** `count` bytes, fewer at the end of the file. Valid until the next call. */
  bytes(at: number, count: number): Buffer {
    const from = at - this.#aheadAt;
    if (from >= 0 && from + count <= this.#ahead.length) return this.#ahead.subarray(from, from + count);
    const buffer = Buffer.allocUnsafe(Math.max(count, AHEAD_BYTES));
    let done = 0;
    while (done < buffer.length) {
      const got = readSync(this.fd, buffer, done, buffer.length - done, at + done);
      if (got === 0) break;
      done += got;
    }
    this.#ahead = buffer.subarray(0, done);
    this.#aheadAt = at;
    return this.#ahead.subarray(0, count);
  }

  /**
   * The records of the frames from `from` up to `end`, and the damage between them.
   * @param wanted tells of which records the whole is read; of others only the head is.
   */
  *records(
    head: Pick<SegmentHead, 'journal' | 'number'>,
    from: number,
    end: number,
    wanted: (record: RecordHead) => boolean,
  ): Generator<FoundRecord | Damage> {
    for (let at = from; at < end; ) {
      const frame = this.#frameAt(at, head);
      if (frame === null) {
        const next = this.#nextFrame(at + BLOCK_BYTES, head, end);
        yield { kindOfFind: 'damage', frameAt: at, at, bytes: next - at, records: 0 };
        at = next;
        continue;
      }
      yield* this.#recordsOf(frame, at, wanted);
      at += frameBytes(frame);
    }
  }

  #frameAt(at: number, { journal, number }: Pick<SegmentHead, 'journal' | 'number'>): FrameHead | null {
    const frame = decodeFrameHead(this.bytes(at, FRAME_HEAD_BYTES));
    return frame !== null && frame.journal === journal && frame.segment === number ? frame : null;
  }

  #nextFrame(from: number, head: Pick<SegmentHead, 'journal' | 'number'>, end: number): number {
    for (let at = from; at < end; at += BLOCK_BYTES) if (this.#frameAt(at, head) !== null) return at;
    return end;
  }

  *#recordsOf(
    { records, bodyBytes }: FrameHead,
    frameAt: number,
    wanted: (record: RecordHead) => boolean,
  ): Generator<FoundRecord | Damage> {
    let at = frameAt + FRAME_HEAD_BYTES;
    const end = at + bodyBytes;
    for (let i = 0; i < records; i++) {
      const head = decodeRecordHead(this.bytes(at, RECORD_HEAD_BYTES));
      const bytes = head === null ? 0 : recordBytes(head);
      if (head === null || at + bytes > end) {
        yield { kindOfFind: 'damage', frameAt, at, bytes: end - at, records: records - i };
        return;
      }
      if (wanted(head)) yield this.#record(head, frameAt, at);
      at += bytes;
    }
  }

  #record(head: RecordHead, frameAt: number, at: number): FoundRecord {
    const metaAt = at + RECORD_HEAD_BYTES;
    const contentAt = metaAt + head.metaBytes;
    const meta = this.bytes(metaAt, head.metaBytes);
    const metaCrc = crc32(meta);
    const text = meta.toString('utf8');
    const contentCrc = this.#crcOf(contentAt, head.contentBytes);
    const trailer = this.bytes(contentAt + head.contentBytes, TRAILER_BYTES);
    const whole = trailer.length === TRAILER_BYTES;
    const metaIntact = whole && trailer.readUInt32BE(0) === metaCrc;
    const intact = metaIntact && trailer.readUInt32BE(4) === contentCrc;
    return { kindOfFind: 'record', ...head, frameAt, contentAt, meta: metaIntact ? text : null, intact };
  }

  #crcOf(at: number, bytes: number): number {
    let crc = 0;
    for (let done = 0; done < bytes; ) {
      const part = this.bytes(at + done, Math.min(AHEAD_BYTES, bytes - done));
      if (part.length === 0) return ~crc >>> 0;
      crc = crc32(part, crc);
      done += part.length;
    }
    return crc;
  }

  close(): void {
    closeSync(this.fd);
  }
}
