/**
 * Opens and reads files that others put there, or whose names others chose: regular ones only, and of bounded length. A
 * named pipe would keep us waiting, a device might never end.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const { O_RDONLY, O_NONBLOCK } = constants;
/** Without waiting for whoever would write to a pipe. */
const READ = O_RDONLY | O_NONBLOCK;
const MOST_BYTES = 256 * 1_048_576;

/** @throws Error of the file system, or saying that it is too long or no regular file. */
export function readRegular(path: string, mostBytes = MOST_BYTES): Buffer {
  const fd = openSync(path, READ);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw notRegular(stats);
    // Some files have no size beforehand (/proc), and one may grow.
    const parts: Buffer[] = [];
    for (let length = 0; ; ) {
      const part = Buffer.allocUnsafe(Math.max(4096, Math.min(stats.size, mostBytes) - length + 1));
      const bytes = readSync(fd, part, 0, part.length, null);
      if (bytes === 0) return Buffer.concat(parts);
      length += bytes;
      if (length > mostBytes) throw new Error(`it is longer than ${mostBytes} bytes`);
      parts.push(part.subarray(0, bytes));
    }
  } finally {
    closeSync(fd);
  }
}

export const readRegularText = (path: string, mostBytes = MOST_BYTES): string =>
  readRegular(path, mostBytes).toString('utf8');

/** @throws as `readRegular`. */
export async function openRegular(path: string): Promise<FileHandle> {
  const file = await open(path, READ);
  const stats = await file.stat();
  if (stats.isFile()) return file;
  await file.close();
  throw notRegular(stats);
}

/** @throws as `readRegular`. */
export async function readRegularLater(path: string): Promise<string> {
  await using file = await openRegular(path);
  if ((await file.stat()).size > MOST_BYTES) throw new Error(`it is longer than ${MOST_BYTES} bytes`);
  return await file.readFile('utf8');
}

function notRegular(stats: { isDirectory(): boolean }): Error {
  const error: NodeJS.ErrnoException = new Error('it is no regular file');
  if (stats.isDirectory()) error.code = 'EISDIR';
  return error;
}
