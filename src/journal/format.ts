/**
 * The bytes of a journal. Pure.
 *
 *   segment:  head (one block)  frame  frame  …
 *   frame:    head (40)  record  record  …  zeros up to the next block
 *   record:   head (32)  meta  content  trailer (8)
 *
 * A frame is what one fsync made durable; it begins at a block, so no write ever touches a block that holds
 * acknowledged mail, and a reader that meets damage goes on at a later block. Every part has a CRC-32 of its own: damage
 * costs the records it hit, never those before and after it. Numbers are big endian.
 */
import { crc32 } from 'node:zlib';

export const BLOCK_BYTES = 4096;
/** Rounds up to whole blocks, as O_DIRECT demands of lengths and offsets. */
export const blocks = (bytes: number): number => Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;

/** To be raised when this layout changes, or that of the messages in it (mail/message-record.ts). */
export const JOURNAL_VERSION = 1;
const SEGMENT_MARK = Buffer.from('PRJRNL\r\n');
const FRAME_MARK = 0x50524a46; // 'PRJF'
const RECORD_MARK = 0x5243; // 'RC'
/** Length of a journal's name. */
export const ID_BYTES = 8;
const SEGMENT_HEAD_BYTES = 64;
export const FRAME_HEAD_BYTES = 40;
export const RECORD_HEAD_BYTES = 32;
export const TRAILER_BYTES = 8;

export const RECORD_KIND = { message: 1, withdrawal: 2 } as const;
export type RecordKind = (typeof RECORD_KIND)[keyof typeof RECORD_KIND];

export interface SegmentHead {
  version: number;
  /** Name of the journal, hexadecimal. */
  journal: string;
  number: number;
  /** No record of this segment, or of a later one, has a lower number. */
  firstSeq: number;
  /** Where the segment before this one ends: bytes behind that were never acknowledged. 0: not known. */
  previousEnd: number;
}

/** Fills the first block of a segment. */
export function encodeSegmentHead(head: SegmentHead): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  SEGMENT_MARK.copy(bytes);
  bytes.writeUInt32BE(head.version, 8);
  bytes.write(head.journal, 12, ID_BYTES, 'hex');
  bytes.writeUInt32BE(head.number, 20);
  bytes.writeUIntBE(head.firstSeq, 24, 6);
  bytes.writeUIntBE(head.previousEnd, 30, 6);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, SEGMENT_HEAD_BYTES - 4)), SEGMENT_HEAD_BYTES - 4);
  return bytes;
}

/**
 * null when this is no head of a segment, or a damaged one. In a head of another version only `version` has a meaning.
 */
export function decodeSegmentHead(bytes: Buffer): SegmentHead | null {
  if (bytes.length < SEGMENT_HEAD_BYTES || SEGMENT_MARK.compare(bytes, 0, SEGMENT_MARK.length) !== 0)
    return null;
  const version = bytes.readUInt32BE(8);
  const intact =
    bytes.readUInt32BE(SEGMENT_HEAD_BYTES - 4) === crc32(bytes.subarray(0, SEGMENT_HEAD_BYTES - 4));
  if (!intact && version === JOURNAL_VERSION) return null;
  return {
    version,
    journal: bytes.toString('hex', 12, 12 + ID_BYTES),
    number: bytes.readUInt32BE(20),
    firstSeq: bytes.readUIntBE(24, 6),
    previousEnd: bytes.readUIntBE(30, 6),
  };
}

export interface FrameHead {
  journal: string;
  segment: number;
  records: number;
  /** Length of its records; zeros follow up to the next block. */
  bodyBytes: number;
}

export const frameBytes = ({ bodyBytes }: Pick<FrameHead, 'bodyBytes'>): number =>
  blocks(FRAME_HEAD_BYTES + bodyBytes);

export function encodeFrameHead(into: Buffer, at: number, head: FrameHead): void {
  into.writeUInt32BE(FRAME_MARK, at);
  into.write(head.journal, at + 4, ID_BYTES, 'hex');
  into.writeUInt32BE(head.segment, at + 12);
  into.writeUInt32BE(head.records, at + 16);
  into.writeUIntBE(head.bodyBytes, at + 20, 6);
  into.fill(0, at + 26, at + FRAME_HEAD_BYTES - 4);
  into.writeUInt32BE(crc32(into.subarray(at, at + FRAME_HEAD_BYTES - 4)), at + FRAME_HEAD_BYTES - 4);
}

/** null when no frame begins here. */
export function decodeFrameHead(bytes: Buffer): FrameHead | null {
  if (bytes.length < FRAME_HEAD_BYTES || bytes.readUInt32BE(0) !== FRAME_MARK) return null;
  const crc = crc32(bytes.subarray(0, FRAME_HEAD_BYTES - 4));
  if (bytes.readUInt32BE(FRAME_HEAD_BYTES - 4) !== crc) return null;
  return {
    journal: bytes.toString('hex', 4, 4 + ID_BYTES),
    segment: bytes.readUInt32BE(12),
    records: bytes.readUInt32BE(16),
    bodyBytes: bytes.readUIntBE(20, 6),
  };
}

export interface RecordHead {
  kind: RecordKind;
  /** Shard its message belongs to. */
  shard: number;
  /** Rises by at least one from record to record. */
  seq: number;
  metaBytes: number;
  contentBytes: number;
}

export const recordBytes = ({ metaBytes, contentBytes }: Pick<RecordHead, 'metaBytes' | 'contentBytes'>) =>
  RECORD_HEAD_BYTES + metaBytes + contentBytes + TRAILER_BYTES;

export function encodeRecordHead(into: Buffer, at: number, head: RecordHead): void {
  into.writeUInt16BE(RECORD_MARK, at);
  into[at + 2] = head.kind;
  into[at + 3] = head.shard;
  into.writeUIntBE(head.seq, at + 4, 6);
  into.writeUInt32BE(head.metaBytes, at + 10);
  into.writeUIntBE(head.contentBytes, at + 14, 6);
  into.fill(0, at + 20, at + RECORD_HEAD_BYTES - 4);
  into.writeUInt32BE(crc32(into.subarray(at, at + RECORD_HEAD_BYTES - 4)), at + RECORD_HEAD_BYTES - 4);
}

/** null when no record begins here, or its head is damaged. */
export function decodeRecordHead(bytes: Buffer): RecordHead | null {
  if (bytes.length < RECORD_HEAD_BYTES || bytes.readUInt16BE(0) !== RECORD_MARK) return null;
  const crc = crc32(bytes.subarray(0, RECORD_HEAD_BYTES - 4));
  if (bytes.readUInt32BE(RECORD_HEAD_BYTES - 4) !== crc) return null;
  return {
    kind: bytes[2] as RecordKind,
    shard: bytes[3] as number,
    seq: bytes.readUIntBE(4, 6),
    metaBytes: bytes.readUInt32BE(10),
    contentBytes: bytes.readUIntBE(14, 6),
  };
}

export function encodeTrailer(into: Buffer, at: number, metaCrc: number, contentCrc: number): void {
  into.writeUInt32BE(metaCrc, at);
  into.writeUInt32BE(contentCrc, at + 4);
}

/** The meta of a record: for a message its values, for a withdrawal the number of the record it voids. */
export const encodeMeta = (values: readonly (string | number | null)[]): string => JSON.stringify(values);
export const decodeMeta = (text: string): (string | number | null)[] =>
  JSON.parse(text) as (string | number | null)[];
