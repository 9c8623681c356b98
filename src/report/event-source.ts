/**
 * The lines of one relay process in its event files, from the oldest to the newest, a block at a time: memory stays
 * bounded whatever the files hold. A file that grows is read on; once a newer one is there, it is left at its end. That
 * files are compressed or removed meanwhile changes nothing.
 */
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { createZstdDecompress } from 'node:zlib';
import { type EventFileName, eventFiles } from './event-names.ts';

const BLOCK_BYTES = 1_048_576;
/** No line of ours is longer: what goes on without an end is damaged. */
const MAX_LINE_BYTES = 16 * 1_048_576;
const LF = 0x0a;

export interface SourceOptions {
  dir: string;
  process: number;
  /** Files of later days are left alone. */
  lastDay: string;
  /** Whether lines of this block of text can be wanted; others are passed over as a whole. */
  wanted(block: string): boolean;
  /** Is told of a file that cannot be read to its end. */
  damaged(path: string, why: string): void;
}

/** Where reading begins. */
export interface Start {
  day: string;
  number: number;
  /** Only what is written from now on. */
  atEnd?: boolean;
}

/** The event files in the folder, the oldest first; none where there is no folder. */
export async function listEventFiles(dir: string): Promise<EventFileName[]> {
  return eventFiles(await readdir(dir).catch(() => []));
}

const isBefore = (a: Start, b: Start): boolean => a.day < b.day || (a.day === b.day && a.number < b.number);

export class EventSource {
  /** Lines that were read, from `at` on. */
  lines: string[] = [];
  at = 0;
  readonly #options: SourceOptions;
  readonly #start: Start;
  #file: EventFileName | null = null;
  #plain: FileHandle | null = null;
  #position = 0;
  #blocks: AsyncIterator<Buffer> | null = null;
  #rest = Buffer.alloc(0);

  constructor(options: SourceOptions, start: Start) {
    this.#options = options;
    this.#start = start;
  }

  /** The file being read, or read last. */
  get file(): EventFileName | null {
    return this.#file;
  }

  get empty(): boolean {
    return this.at >= this.lines.length;
  }

  /** Reads on until there are lines. @returns false when there are none at present. */
  async fill(): Promise<boolean> {
    while (this.empty) {
      const block = await this.#block();
      if (block !== null) this.#take(block);
      else if (!(await this.#advance())) return false;
    }
    return true;
  }

  async close(): Promise<void> {
    await this.#plain?.close();
    await this.#blocks?.return?.();
    this.#plain = null;
    this.#blocks = null;
  }

  /** The next block of the present file; null at its end. */
  async #block(): Promise<Buffer | null> {
    try {
      if (this.#blocks !== null) {
        const { done, value } = await this.#blocks.next();
        return done ? null : value;
      }
      if (this.#plain === null) return null;
      const block = Buffer.allocUnsafe(BLOCK_BYTES);
      const { bytesRead } = await this.#plain.read(block, 0, BLOCK_BYTES, this.#position);
      this.#position += bytesRead;
      return bytesRead === 0 ? null : block.subarray(0, bytesRead);
    } catch (error) {
      this.#options.damaged(join(this.#options.dir, this.#file?.name ?? ''), (error as Error).message);
      await this.#leave();
      return null;
    }
  }

  /** To the next file. @returns false when there is none, and so the present one may still grow. */
  async #advance(): Promise<boolean> {
    const next = await this.#next();
    if (next === null) return false;
    // Its writer began the next file after the last line of this one: that is looked for once more.
    const block = await this.#block();
    if (block !== null) {
      this.#take(block);
      return true;
    }
    await this.#leave();
    await this.#open(next);
    return true;
  }

  async #next(): Promise<EventFileName | null> {
    const { dir, process, lastDay } = this.#options;
    const from = this.#file;
    const isNext = (file: EventFileName): boolean =>
      from === null ? !isBefore(file, this.#start) : isBefore(from, file);
    const files = await listEventFiles(dir);
    return files.find((file) => file.process === process && isNext(file) && file.day <= lastDay) ?? null;
  }

  async #leave(): Promise<void> {
    await this.close();
    this.#rest = Buffer.alloc(0);
  }

  async #open(file: EventFileName): Promise<void> {
    const path = join(this.#options.dir, file.name);
    const atEnd = this.#file === null && this.#start.atEnd === true;
    try {
      if (file.compressed) {
        if (!atEnd) {
          const stream = createZstdDecompress();
          pipeline(createReadStream(path, { highWaterMark: BLOCK_BYTES }), stream, () => {});
          this.#blocks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
        }
      } else {
        this.#plain = await open(path, 'r');
        this.#position = atEnd ? (await this.#plain.stat()).size : 0;
      }
      this.#file = file;
    } catch (error) {
      // Compressed since it was listed: it is found under its new name.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      this.#options.damaged(path, (error as Error).message);
      this.#file = file;
    }
  }

  #take(block: Buffer): void {
    const bytes = this.#rest.length === 0 ? block : Buffer.concat([this.#rest, block]);
    const end = bytes.lastIndexOf(LF) + 1;
    this.#rest = bytes.length - end > MAX_LINE_BYTES ? Buffer.alloc(0) : Buffer.from(bytes.subarray(end));
    if (end === 0) return;
    const text = bytes.toString('utf8', 0, end - 1);
    this.lines = this.#options.wanted(text) ? text.split('\n') : [];
    this.at = 0;
  }
}
