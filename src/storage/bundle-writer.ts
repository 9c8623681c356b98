/**
 * Writes bundle files: the contents of a group commit, one after another. When `write` returns they are on stable
 * storage, except the file's name (see syncFolder).
 *
 * Long bundles are written past the page cache where the file system can (O_DIRECT): new mail is delivered from memory,
 * so a cached copy is of no use, and making one costs ten times the rest (measured with 4 MiB files: 140 µs of CPU per
 * 100 KB against 14, and 470 MB/s against 1,300).
 */
import { closeSync, constants, fdatasyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { alignedBuffer } from '../native.ts';
import { unlinkIfThere, writeAll } from './content-file.ts';

/** Shorter bundles go through the page cache: each direct write waits for the device. */
const DIRECT_FROM_BYTES = 131_072;
/** How many bytes are gathered for one direct write. */
const STAGE_BYTES = 1_048_576;
/** The alignment of memory, offsets and lengths that suits O_DIRECT on every file system we know of. */
const BLOCK_BYTES = 4096;

export class BundleWriter {
  #stage: Buffer | null = null;
  /** undefined where the platform has no such flag (macOS), or the file system refused it. */
  #directFlag: number | undefined = constants.O_DIRECT;

  /** Creates or replaces the file. A file that could not be written whole is deleted. Throws what node:fs throws. */
  write(path: string, views: readonly Buffer[]): void {
    let total = 0;
    for (const view of views) total += view.length;
    if (total >= DIRECT_FROM_BYTES && this.#directFlag !== undefined) {
      if (this.#writeDirect(path, views, total, this.#directFlag)) return;
      this.#directFlag = undefined;
    }
    this.#writeTo(openSync(path, 'w', 0o600), path, (fd) => writeAll(fd, views));
  }

  /** @returns false when the file system cannot write directly (EINVAL); nothing is left of the try then. */
  #writeDirect(path: string, views: readonly Buffer[], total: number, flag: number): boolean {
    const { O_WRONLY, O_CREAT, O_TRUNC } = constants;
    try {
      this.#writeTo(openSync(path, O_WRONLY | O_CREAT | O_TRUNC | flag, 0o600), path, (fd) => {
        this.#copyOut(fd, views);
        ftruncateSync(fd, total);
      });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
      unlinkIfThere(path);
      return false;
    }
  }

  #writeTo(fd: number, path: string, write: (fd: number) => void): void {
    try {
      write(fd);
      fdatasyncSync(fd);
    } catch (error) {
      closeSync(fd);
      unlinkIfThere(path);
      throw error;
    }
    closeSync(fd);
  }

  #copyOut(fd: number, views: readonly Buffer[]): void {
    this.#stage ??= alignedBuffer(STAGE_BYTES);
    const stage = this.#stage;
    let used = 0;
    let offset = 0;
    for (const view of views) {
      for (let at = 0; at < view.length; ) {
        const count = Math.min(view.length - at, STAGE_BYTES - used);
        stage.set(view.subarray(at, at + count), used);
        used += count;
        at += count;
        if (used < STAGE_BYTES) continue;
        writeBlocks(fd, stage, STAGE_BYTES, offset);
        offset += STAGE_BYTES;
        used = 0;
      }
    }
    if (used === 0) return;
    // The last block is filled up with zeros, never with what an earlier bundle left there.
    const padded = Math.ceil(used / BLOCK_BYTES) * BLOCK_BYTES;
    stage.fill(0, used, padded);
    writeBlocks(fd, stage, padded, offset);
  }
}

/** Writes blocks. A short direct write (disk nearly full) ends at a block: the next one from there gets the actual error. */
function writeBlocks(fd: number, stage: Buffer, bytes: number, offset: number): void {
  for (let done = 0; done < bytes; ) {
    const count = writeSync(fd, stage, done, bytes - done, offset + done);
    if (count % BLOCK_BYTES !== 0)
      throw Object.assign(new Error('ENOSPC: short direct write'), { code: 'ENOSPC' });
    done += count;
  }
}
