/**
 * The lines of one relay process in its event files, from the oldest to the newest, a block at a time: memory stays
 * bounded whatever the files hold. A file that grows is read on; once a newer one is there, it is left at its end. That
 * files are compressed or removed meanwhile changes nothing.
 */
import { type FileHandle, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { createZstdDecompress } from 'node:zlib';
import { openRegular } from '../base/regular-file.ts';
import { type EventFileName, eventFiles } from './event-names.ts';

const BLOCK_BYTES = 1_048_576;
/** Of a compressed file. */
const ZSTD_BLOCK_BYTES = 262_144;
/** No line of ours is longer: one that is, is damaged and passed over. */
const MAX_LINE_BYTES = 1_048_576;
const LF = 0x0a;
const OBJECT = 0x7b;

export interface SourceOptions {
  dir: string;
  process: number;
  /** Files of later days are left alone. */
  lastDay: string;
  /** Whether lines of this block of text can be wanted; others are passed over as a whole. */
  wanted(block: string): boolean;
  /** Ends reading when it aborts. */
  signal: AbortSignal;
  /** Is told once of a file that is damaged, or cannot be read. */
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
  /** What has come of the line that is not complete. */
  #rest: Buffer[] = [];
  #restBytes = 0;
  #isDamaged = false;

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
      if (this.#options.signal.aborted) return false;
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
      this.#damaged((error as Error).message);
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
    this.#isDamaged = false;
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
    this.#rest = [];
    this.#restBytes = 0;
  }

  async #open(file: EventFileName): Promise<void> {
    const path = join(this.#options.dir, file.name);
    const atEnd = this.#file === null && this.#start.atEnd === true;
    try {
      if (!file.compressed) {
        this.#plain = await openRegular(path);
        this.#position = atEnd ? (await this.#plain.stat()).size : 0;
      } else if (!atEnd) {
        const stream = createZstdDecompress({ chunkSize: ZSTD_BLOCK_BYTES });
        const bytes = (await openRegular(path)).createReadStream({ highWaterMark: ZSTD_BLOCK_BYTES });
        pipeline(bytes, stream, () => {});
        this.#blocks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
      }
      this.#file = file;
    } catch (error) {
      // Compressed since it was listed: it is found under its new name.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      this.#file = file;
      this.#damaged((error as Error).message);
    }
  }

  #take(block: Buffer): void {
    const end = block.lastIndexOf(LF) + 1;
    if (end > 0) this.#split(block.subarray(0, end - 1));
    const rest = block.subarray(end);
    this.#restBytes += rest.length;
    if (this.#restBytes <= MAX_LINE_BYTES) {
      this.#rest.push(Buffer.from(rest));
      return;
    }
    this.#rest = [];
    this.#damaged(`a line is longer than ${MAX_LINE_BYTES} bytes`);
  }

  /** Makes lines of what is left and of these bytes, which end with a line. */
  #split(bytes: Buffer): void {
    const isLong = this.#restBytes > MAX_LINE_BYTES;
    const whole = isLong ? afterFirst(bytes) : Buffer.concat([...this.#rest, bytes]);
    this.#rest = [];
    this.#restBytes = 0;
    if (!whole.includes(OBJECT)) {
      if (!isEmptyLines(whole)) this.#damaged('there are lines that are no events');
      return;
    }
    const text = whole.toString('utf8');
    this.lines = this.#options.wanted(text) ? text.split('\n') : [];
    this.at = 0;
  }

  /** Says it once of a file. */
  #damaged(why: string): void {
    if (this.#isDamaged) return;
    this.#isDamaged = true;
    this.#options.damaged(join(this.#options.dir, this.#file?.name ?? ''), why);
  }
}

/** Whether there is nothing but ends of lines: the first octet is one, and each is like the one before. */
function isEmptyLines(bytes: Buffer): boolean {
  if (bytes.length < 2) return bytes.length === 0 || bytes[0] === LF;
  return bytes[0] === LF && bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) === 0;
}

/** What comes after the first of these lines. */
function afterFirst(bytes: Buffer): Buffer {
  const end = bytes.indexOf(LF);
  return end === -1 ? Buffer.alloc(0) : bytes.subarray(end + 1);
}
