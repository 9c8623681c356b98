/**
 * Files of content. They are written once and made durable (file, then folder); content that the reactor has spilled is
 * linked from the spill folder. All calls block; they run on the persistence thread.
 */
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { RelayError } from '../base/errors.ts';
import { makeFolder } from '../base/make-folder.ts';
import { type Arena, NO_CONTENT } from '../native.ts';

const COPY_BYTES = 1024 * 1024;

/** Makes names in a folder durable. */
export function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Creates a folder that survives a crash; does nothing when it is there. */
export function makeDurableFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(path, 0o700);
  syncFolder(dirname(path));
}

/** Writes the views one after another at the file's position. */
export function writeAll(fd: number, views: readonly Buffer[]): void {
  let total = 0;
  for (const view of views) total += view.length;
  let written = writevSync(fd, views);
  if (written === total) return;
  // After a short write (disk nearly full, signal) go on from that byte, until all is written or the error comes.
  let before = 0;
  for (const view of views) {
    while (written < before + view.length) written += writeSync(fd, view, written - before);
    before += view.length;
  }
}

/**
 * Gives spilled content a second, lasting name. The first name is the reactor's, and is removed with the last
 * reference; so a commit that fails loses nothing. Copies the file where no link can be made (another file system).
 */
export function keepSpilled(arena: Arena, content: number, path: string): void {
  const file = arena.file(content);
  if (file === null) throw new RelayError('storage_failed', `content ${content} is not in a file`);
  unlinkIfThere(path);
  if (file.path !== null && file.offset === 0 && linked(file.path, path)) {
    fsyncSync(file.fd);
    return;
  }
  copyRange(file.fd, file.offset, arena.lengthBytes(content), path);
}

function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EXDEV' || code === 'EPERM' || code === 'ENOTSUP' || code === 'EMLINK') return false;
    throw error;
  }
}

function copyRange(from: number, offset: number, lengthBytes: number, path: string): void {
  const to = openSync(path, 'w', 0o600);
  try {
    const block = Buffer.allocUnsafe(Math.min(COPY_BYTES, Math.max(1, lengthBytes)));
    for (let done = 0; done < lengthBytes; ) {
      const count = readSync(from, block, 0, Math.min(block.length, lengthBytes - done), offset + done);
      if (count === 0)
        throw new RelayError(
          'storage_failed',
          `content for ${path} ends after ${done} of ${lengthBytes} bytes`,
        );
      writeAll(to, [block.subarray(0, count)]);
      done += count;
    }
    fdatasyncSync(to);
  } finally {
    closeSync(to);
  }
}

/**
 * Loads content of a file into the arena: small content as chunks, large as the open file. NO_CONTENT when the arena
 * is short.
 */
export function loadFile(
  arena: Arena,
  path: string,
  offset: number,
  lengthBytes: number,
  inMemoryBytes: number,
): number {
  const fd = openContent(path);
  let owned = true;
  try {
    if (lengthBytes > inMemoryBytes) {
      const content = arena.storeFile(fd, offset, lengthBytes);
      owned = content === NO_CONTENT;
      return content;
    }
    return arena.store(readRange(fd, path, offset, lengthBytes));
  } finally {
    if (owned) closeSync(fd);
  }
}

/** Reads from the content that lies at `start` and has `lengthBytes`: at most `maxBytes` from `offset` within it. */
export function readFilePart(
  path: string,
  start: number,
  lengthBytes: number,
  offset: number,
  maxBytes: number,
): Buffer {
  const count = Math.max(0, Math.min(maxBytes, lengthBytes - offset));
  const fd = openContent(path);
  try {
    return readRange(fd, path, start + offset, count);
  } finally {
    closeSync(fd);
  }
}

function openContent(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new RelayError('content_missing', `content file ${path} is not there`, error);
  }
}

function readRange(fd: number, path: string, offset: number, count: number): Buffer {
  const bytes = Buffer.allocUnsafe(count);
  let done = 0;
  while (done < count) {
    const got = readSync(fd, bytes, done, count - done, offset + done);
    if (got === 0)
      throw new RelayError('content_missing', `content file ${path} ends before byte ${offset + count}`);
    done += got;
  }
  return bytes;
}

/** @returns false when it could not be deleted. */
export function unlinkIfThere(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}
