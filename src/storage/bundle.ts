/**
 * Bundles of the replicated providers: the contents of one group commit in one object that carries its own checksums.
 * Pure, except for reading spilled content.
 *
 *   head (8)   content, trailer (12)   content, trailer (12) …   foot (18)
 *
 * A trailer has the length and CRC-32 of the content before it, so that one read brings content and checksum. The foot
 * has the length and CRC-32 of everything before it, so that a replica can be checked without knowing its contents.
 */
import { readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { RelayError } from '../base/errors.ts';
import type { Arena } from '../native.ts';
import type { ContentRef, StorageItem } from './storage.ts';

const HEAD = Buffer.from('PRBNDL1\n');
const TRAILER_MARK = 0x5052; // 'PR'
const FOOT_MARK = Buffer.from('PRBEND1\n');
export const TRAILER_BYTES = 12;
export const FOOT_BYTES = FOOT_MARK.length + 10;
const BLOCK_BYTES = 1024 * 1024;

/** Bytes in an open file. The arena owns the descriptor. */
export interface FileRange {
  fd: number;
  offset: number;
  lengthBytes: number;
}

export type Piece = Buffer | FileRange;

export interface Bundle {
  /** The object's bytes in order. Some are views on the arena. */
  pieces: Piece[];
  lengthBytes: number;
  /** Queue id that names the object. */
  queueId: string;
  /** For each content the index of its item, and where it begins in the object. */
  contents: { index: number; offset: number }[];
  /** Spilled content that a piece reads from; null when all pieces are memory. */
  spilled: number | null;
}

class Builder {
  readonly pieces: Piece[] = [HEAD];
  readonly contents: Bundle['contents'] = [];
  readonly queueId: string;
  lengthBytes = HEAD.length;
  #crc = crc32(HEAD);

  constructor(queueId: string) {
    this.queueId = queueId;
  }

  add(index: number, views: Buffer[]): void {
    this.contents.push({ index, offset: this.lengthBytes });
    let crc = 0;
    let length = 0;
    for (const view of views) {
      crc = crc32(view, crc);
      length += view.length;
      this.#append(view);
    }
    this.#append(trailer(crc, length));
  }

  addFile(index: number, range: FileRange): void {
    this.contents.push({ index, offset: this.lengthBytes });
    let crc = 0;
    for (const block of blocksOf(range)) {
      crc = crc32(block, crc);
      this.#crc = crc32(block, this.#crc);
    }
    this.pieces.push(range);
    this.lengthBytes += range.lengthBytes;
    this.#append(trailer(crc, range.lengthBytes));
  }

  #append(bytes: Buffer): void {
    this.pieces.push(bytes);
    this.lengthBytes += bytes.length;
    this.#crc = crc32(bytes, this.#crc);
  }

  finish(spilled: number | null): Bundle {
    const foot = Buffer.alloc(FOOT_BYTES);
    FOOT_MARK.copy(foot);
    foot.writeUIntBE(this.lengthBytes, FOOT_MARK.length, 6);
    foot.writeUInt32BE(this.#crc, FOOT_MARK.length + 6);
    this.pieces.push(foot);
    this.lengthBytes += foot.length;
    const { pieces, contents, queueId, lengthBytes } = this;
    return { pieces, contents, queueId, lengthBytes, spilled };
  }
}

/**
 * The objects that a commit becomes: one bundle, or several where it would exceed `maxBytes`. Spilled content becomes
 * an object of its own, whose bytes stay in their file until they are written.
 */
export function bundlesOf(
  arena: Pick<Arena, 'file' | 'parts'>,
  items: StorageItem[],
  maxBytes: number,
): Bundle[] {
  const bundles: Bundle[] = [];
  let open: Builder | null = null;
  for (const [index, { queueId, content, lengthBytes }] of items.entries()) {
    const file = arena.file(content);
    if (file !== null) {
      const builder = new Builder(queueId);
      builder.addFile(index, { fd: file.fd, offset: file.offset, lengthBytes });
      bundles.push(builder.finish(content));
      continue;
    }
    if (open !== null && open.lengthBytes + lengthBytes > maxBytes) {
      bundles.push(open.finish(null));
      open = null;
    }
    open ??= new Builder(queueId);
    open.add(index, arena.parts(content));
  }
  if (open !== null) bundles.push(open.finish(null));
  return bundles;
}

/** Writes into `refs`, by index of the item, where the contents of a bundle lie in the object. */
export function fillRefs(refs: ContentRef[], bundle: Bundle, object: string, items: StorageItem[]): void {
  for (const { index, offset } of bundle.contents)
    refs[index] = { object, offset, lengthBytes: (items[index] as StorageItem).lengthBytes, parts: 0 };
}

function trailer(crc: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  bytes.writeUInt16BE(TRAILER_MARK, 0);
  bytes.writeUIntBE(lengthBytes, 2, 6);
  bytes.writeUInt32BE(crc, 8);
  return bytes;
}

/** Whether `bytes` are a trailer for content of this length with this CRC. */
export function isTrailerFor(bytes: Buffer, lengthBytes: number, crc: number): boolean {
  return (
    bytes.length === TRAILER_BYTES &&
    bytes.readUInt16BE(0) === TRAILER_MARK &&
    bytes.readUIntBE(2, 6) === lengthBytes &&
    bytes.readUInt32BE(8) === crc
  );
}

/** @param bytes content and trailer. @returns the content; null when either is not what was written. */
export function checked(bytes: Buffer, lengthBytes: number): Buffer | null {
  const content = bytes.subarray(0, lengthBytes);
  return isTrailerFor(bytes.subarray(lengthBytes), lengthBytes, crc32(content)) ? content : null;
}

/** What the foot of an object says of the bytes before it; null when this is no foot. */
export function readFoot(foot: Buffer): { lengthBytes: number; crc: number } | null {
  if (foot.length !== FOOT_BYTES || !foot.subarray(0, FOOT_MARK.length).equals(FOOT_MARK)) return null;
  return {
    lengthBytes: foot.readUIntBE(FOOT_MARK.length, 6),
    crc: foot.readUInt32BE(FOOT_MARK.length + 6),
  };
}

/** The bytes of a range, in blocks. Each block is valid until the next. Throws when the file is too short. */
export function* blocksOf({ fd, offset, lengthBytes }: FileRange): Generator<Buffer> {
  const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, Math.max(1, lengthBytes)));
  for (let done = 0; done < lengthBytes; ) {
    const count = readSync(fd, block, 0, Math.min(block.length, lengthBytes - done), offset + done);
    if (count === 0)
      throw new RelayError('storage_failed', `spilled content ends after ${done} of ${lengthBytes} bytes`);
    yield block.subarray(0, count);
    done += count;
  }
}
