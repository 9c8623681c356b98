/**
 * Files of replicas, by calls that do not block the thread: a disk that hangs then costs a thread of libuv's pool, and
 * not the persistence thread. Descriptors opened here are closed here, except those that `openVerified` returns.
 */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import {
  blocksOf,
  checked,
  FOOT_BYTES,
  isTrailerFor,
  type Piece,
  readFoot,
  TRAILER_BYTES,
} from '../bundle.ts';

const open = promisify(fs.open);
const close = promisify(fs.close);
const read = promisify(fs.read);
const write = promisify(fs.write);
const fsync = promisify(fs.fsync);
const fdatasync = promisify(fs.fdatasync);
const rename = promisify(fs.rename);
const unlink = promisify(fs.unlink);
const fstat = promisify(fs.fstat);

const BLOCK_BYTES = 1024 * 1024;
const NEW_SUFFIX = '.new';

export function errnoOf(error: unknown): string | null {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : null;
}

export { close as closeFd, fsync as syncFd, open as openFile };

/** Makes a file of these pieces. It is on stable storage, but its name is not yet. An existing file is an error (EEXIST). */
export async function writeNew(path: string, pieces: Piece[]): Promise<void> {
  const fd = await open(path, 'wx', 0o600);
  try {
    let at = 0;
    for (const piece of pieces) {
      if (Buffer.isBuffer(piece)) at = await writeAt(fd, piece, at);
      else for (const block of blocksOf(piece)) at = await writeAt(fd, block, at);
    }
    await fdatasync(fd);
  } catch (error) {
    await close(fd).catch(() => {}); // the error that matters is the write's
    await remove(path).catch(() => {}); // what stays is swept
    throw error;
  }
  await close(fd);
}

/** Writes at an offset. @returns where the next byte goes. */
async function writeAt(fd: number, bytes: Buffer, at: number): Promise<number> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await write(fd, bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
  return at + bytes.length;
}

/** Deletes a file; @returns false when it was not there. */
export async function remove(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return false;
  }
}

/** Why a replica is of no use. */
export type Unusable = 'missing' | 'damaged';

async function openReplica(path: string): Promise<number | 'missing'> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 'missing';
    throw error;
  }
}

/** Reads `count` bytes; fewer at the end of the file. */
async function readAt(fd: number, at: number, count: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(count);
  let done = 0;
  while (done < count) {
    const { bytesRead } = await read(fd, bytes, done, count - done, at + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

/** Reads content and its trailer at once; returns the content if the trailer fits it. */
export async function readVerified(
  path: string,
  offset: number,
  lengthBytes: number,
): Promise<Buffer | Unusable> {
  const fd = await openReplica(path);
  if (fd === 'missing') return fd;
  try {
    const bytes = await readAt(fd, offset, lengthBytes + TRAILER_BYTES);
    return checked(bytes, lengthBytes) ?? 'damaged';
  } finally {
    await close(fd);
  }
}

/** Like readVerified, for content that stays in the file: checks it in blocks, then returns the open descriptor. */
export async function openVerified(
  path: string,
  offset: number,
  lengthBytes: number,
): Promise<number | Unusable> {
  const fd = await openReplica(path);
  if (fd === 'missing') return fd;
  let proven = false;
  try {
    let crc = 0;
    for (let done = 0; done < lengthBytes; ) {
      const block = await readAt(fd, offset + done, Math.min(BLOCK_BYTES, lengthBytes - done));
      if (block.length === 0) return 'damaged';
      crc = crc32(block, crc);
      done += block.length;
    }
    proven = isTrailerFor(await readAt(fd, offset + lengthBytes, TRAILER_BYTES), lengthBytes, crc);
    return proven ? fd : 'damaged';
  } finally {
    if (!proven) await close(fd);
  }
}

/** Reads some bytes of a range that was checked before. */
export async function readPart(path: string, at: number, count: number): Promise<Buffer | Unusable> {
  const fd = await openReplica(path);
  if (fd === 'missing') return fd;
  try {
    const bytes = await readAt(fd, at, count);
    return bytes.length === count ? bytes : 'damaged';
  } finally {
    await close(fd);
  }
}

/** Checks whether a whole replica is what was written; `lengthBytes` is how much was read for that. */
export async function verifyReplica(
  path: string,
): Promise<{ state: 'good' | Unusable; lengthBytes: number }> {
  const fd = await openReplica(path);
  if (fd === 'missing') return { state: fd, lengthBytes: 0 };
  try {
    const { size } = await fstat(fd);
    const foot = size < FOOT_BYTES ? null : readFoot(await readAt(fd, size - FOOT_BYTES, FOOT_BYTES));
    if (foot === null || foot.lengthBytes !== size - FOOT_BYTES)
      return { state: 'damaged', lengthBytes: FOOT_BYTES };
    const crc = await crcOf(fd, foot.lengthBytes);
    return { state: crc === foot.crc ? 'good' : 'damaged', lengthBytes: size };
  } finally {
    await close(fd);
  }
}

async function crcOf(fd: number, lengthBytes: number): Promise<number | null> {
  let crc = 0;
  for (let done = 0; done < lengthBytes; ) {
    const block = await readAt(fd, done, Math.min(BLOCK_BYTES, lengthBytes - done));
    if (block.length === 0) return null;
    crc = crc32(block, crc);
    done += block.length;
  }
  return crc;
}

/**
 * Copies a good replica to where one is missing or damaged. The copy has another name at first, so that no reader ever
 * sees half of it, and is checked while it is made. The caller makes the name durable.
 */
export async function copyReplica(from: string, to: string): Promise<'copied' | Unusable> {
  const source = await openReplica(from);
  if (source === 'missing') return source;
  const temporary = to + NEW_SUFFIX;
  try {
    await remove(temporary);
    const target = await open(temporary, 'wx', 0o600);
    try {
      const { size } = await fstat(source);
      let crc = 0;
      for (let done = 0; done < size - FOOT_BYTES; ) {
        const block = await readAt(source, done, Math.min(BLOCK_BYTES, size - FOOT_BYTES - done));
        if (block.length === 0) return 'damaged';
        crc = crc32(block, crc);
        done = await writeAt(target, block, done);
      }
      const foot = await readAt(source, size - FOOT_BYTES, FOOT_BYTES);
      if (readFoot(foot)?.crc !== crc) return 'damaged';
      await writeAt(target, foot, size - FOOT_BYTES);
      await fdatasync(target);
    } finally {
      await close(target);
    }
    await rename(temporary, to);
    return 'copied';
  } catch (error) {
    await remove(temporary).catch(() => {}); // what stays is swept
    throw error;
  } finally {
    await close(source);
  }
}
