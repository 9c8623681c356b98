/** One file of results that no database has taken yet (unsettled-lines.ts). Only the process that made it appends. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { shardOfQueueId } from '../mail/queue-id.ts';
import { decodeLine, wholeLines } from './unsettled-lines.ts';

export class UnsettledFile {
  readonly path: string;
  readonly #handle: FileHandle;
  #bytes = 0;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /** @throws the Error of the file system. */
  static async create(path: string): Promise<UnsettledFile> {
    const file = new UnsettledFile(path, await open(path, 'w', 0o600));
    try {
      await syncFolder(dirname(path));
    } catch (error) {
      await file.remove();
      throw error;
    }
    return file;
  }

  /** Size of all whole lines. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The lines are durable once it resolves. If it fails, the next append overwrites what it wrote in part. */
  async append(lines: readonly Buffer[]): Promise<void> {
    const all = Buffer.concat(lines);
    for (let done = 0; done < all.length; ) {
      const { bytesWritten } = await this.#handle.write(all, done, all.length - done, this.#bytes + done);
      done += bytesWritten;
    }
    await this.#handle.datasync();
    this.#bytes += all.length;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  async remove(): Promise<void> {
    rmSync(this.path, { force: true });
    await this.#handle.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** A result of an earlier life. */
export interface EarlierLine {
  shard: number;
  bytes: Buffer;
  /** left: the database refused it for now, and the row goes on without it. */
  state: 'waits' | 'done' | 'left';
}

/** The file of an earlier life. */
export class EarlierFile {
  readonly path: string;
  readonly damagedBytes: number;
  lines: EarlierLine[];

  /** @throws the Error of the file system; RelayError when a newer relay wrote it. */
  constructor(path: string) {
    this.path = path;
    const { lines, damagedBytes } = wholeLines(readFileSync(path));
    this.damagedBytes = damagedBytes;
    this.lines = lines.map((bytes) => ({
      shard: shardOfQueueId(decodeLine(bytes).settlement.queueId),
      bytes,
      state: 'waits',
    }));
  }

  get bytes(): number {
    return this.lines.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  /** Removes lines that are done; when none is left, the file is deleted. */
  tidy(): void {
    const left = this.lines.filter(({ state }) => state !== 'done');
    if (left.length === this.lines.length && left.length > 0) return;
    this.lines = left;
    if (left.length === 0) {
      rmSync(this.path, { force: true });
      return;
    }
    const fresh = `${this.path}.new`;
    writeFileSync(fresh, Buffer.concat(left.map(({ bytes }) => bytes)), { mode: 0o600, flush: true });
    renameSync(fresh, this.path);
  }
}
