/**
 * Appends lines to the event files (event-names.ts) of a relay process. Lines are gathered, written off the main path,
 * and a new file begins by size and day; what becomes of the others is for event-archive.ts. This never holds up mail: when the disk does not take lines, or not
 * fast enough, lines are dropped and counted, and the count is written into the file as soon as it can be.
 */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';
import { EventArchive } from './event-archive.ts';
import { eventFileName, eventFiles } from './event-names.ts';

export interface EventFileOptions {
  dir: string;
  /** Number of the relay process; default 0. Each process writes, counts and removes its own files. */
  process?: number;
  /** Name of the node, which stands in every line. */
  node: string;
  maxFileBytes: number;
  /** How long complete files are kept, and how much in all. */
  keepDays: number;
  maxTotalBytes: number;
  /** Most bytes of lines that wait for the disk. */
  maxBufferBytes: number;
  log: Log;
  now?: () => number;
}

const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = constants;
/** Never waits: where somebody put a pipe, that is an error. */
const APPEND = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK;
/** How long a line waits in memory at most while lines keep coming; after a pause the first line is written at once. */
const FLUSH_MS = 25;
const FLUSH_BYTES = 262_144;
/** How long `close` waits for the disk. */
const CLOSE_MS = 5000;
/** How soon the end of a day is noticed when no line comes. */
const LOOK_MS = 3_600_000;

export class EventFile {
  readonly #options: EventFileOptions;
  readonly #now: () => number;
  readonly #process: number;
  readonly #archive: EventArchive;
  readonly #daily: NodeJS.Timeout;
  #waiting = '';
  #lines = 0;
  #dropped = 0;
  #timer: NodeJS.Timeout | NodeJS.Immediate | null = null;
  #lastFlushMs = 0;
  #writing: Promise<void> | null = null;
  #file: FileHandle | null = null;
  #name = '';
  #size = 0;
  /** The last write ended within a line. */
  #torn = false;
  #failed = false;
  #reopen = false;
  #closed = false;

  constructor(options: EventFileOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#process = options.process ?? 0;
    this.#archive = new EventArchive({ ...options, process: this.#process, now: this.#now });
    this.#daily = setInterval(() => this.#endDay(), LOOK_MS).unref();
  }

  /** Appends one line (with its newline). Never waits, never throws. */
  append(line: string): void {
    if (this.#waiting.length + line.length > this.#options.maxBufferBytes || this.#closed) {
      this.#dropped++;
      return;
    }
    this.#waiting += line;
    this.#lines++;
    if (this.#writing !== null) return;
    if (this.#waiting.length >= FLUSH_BYTES) this.#start();
    else if (this.#timer === null) this.#arm();
  }

  #arm(): void {
    const sinceMs = this.#now() - this.#lastFlushMs;
    const fire = (): void => this.#start();
    // Even if the clock stepped back, lines must not wait for longer than FLUSH_MS.
    const delayMs = sinceMs < 0 ? FLUSH_MS : FLUSH_MS - sinceMs;
    this.#timer = delayMs <= 0 ? setImmediate(fire) : setTimeout(fire, delayMs).unref();
  }

  #disarm(): void {
    if (this.#timer === null) return;
    clearTimeout(this.#timer as NodeJS.Timeout);
    clearImmediate(this.#timer as NodeJS.Immediate);
    this.#timer = null;
  }

  #start(): void {
    this.#disarm();
    if (this.#writing !== null) return;
    this.#writing = this.#write().finally(() => {
      this.#writing = null;
      this.#lastFlushMs = this.#now();
      if (this.#waiting !== '') this.#arm();
    });
  }

  /** Writes the lines that wait now; lines that come meanwhile are for the next round. */
  async #write(): Promise<void> {
    const lines = this.#lines;
    let text = this.#waiting;
    this.#waiting = '';
    this.#lines = 0;
    let unwritten: Buffer = Buffer.alloc(0);
    try {
      const file = await this.#current();
      if (this.#torn) text = `\n${text}`;
      if (this.#dropped > 0) {
        const time = new Date(this.#now()).toISOString();
        text += `{"type":"dropped","time":"${time}","node":"${this.#options.node}","lines":${this.#dropped}}\n`;
        this.#options.log.warn('events.dropped', { lines: this.#dropped });
        this.#dropped = 0;
      }
      unwritten = Buffer.from(text, 'utf8');
      while (unwritten.length > 0) {
        const { bytesWritten } = await file.write(unwritten, 0, unwritten.length);
        this.#size += bytesWritten;
        this.#torn = unwritten[bytesWritten - 1] !== 0x0a;
        unwritten = unwritten.subarray(bytesWritten);
      }
      this.#failed = false;
    } catch (error) {
      this.#dropped += unwritten.length === 0 ? lines : countLines(unwritten);
      if (!this.#failed) this.#options.log.error('events.write_failed', { path: this.#options.dir, error });
      this.#failed = true;
      await this.#closeFile();
    }
  }

  /** The file to append to; a new one when the day or the size asks for it. */
  async #current(): Promise<FileHandle> {
    const day = new Date(this.#now()).toISOString().slice(0, 10);
    const full = this.#size >= this.#options.maxFileBytes;
    if (this.#reopen) await this.#closeFile();
    this.#reopen = false;
    if (this.#file !== null && !full && this.#name.startsWith(day)) return this.#file;
    await this.#closeFile();
    await mkdir(this.#options.dir, { recursive: true, mode: 0o700 });
    const files = eventFiles(await readdir(this.#options.dir));
    const newest = files.findLast((file) => file.process === this.#process && file.day === day);
    let number = (newest?.number ?? 1) + (newest?.compressed ? 1 : 0);
    for (;;) {
      this.#name = eventFileName(day, number, this.#process);
      const file = await open(join(this.#options.dir, this.#name), APPEND, 0o600);
      const { size } = await file.stat();
      if (size < this.#options.maxFileBytes) {
        this.#file = file;
        this.#size = size;
        break;
      }
      await file.close();
      number++;
    }
    this.#archive.tidy(this.#name);
    return this.#file;
  }

  /** Where nothing is written, the files of days that are over are looked after all the same. */
  #endDay(): void {
    if (this.#name === '' || this.#writing !== null) return;
    const isOver = !this.#name.startsWith(new Date(this.#now()).toISOString().slice(0, 10));
    if (isOver) void this.#closeFile();
    this.#archive.tidy(isOver ? '' : this.#name);
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    this.#size = 0;
    await file?.close().catch(() => {});
  }

  /** The next line goes to a newly opened file: the old one may have been moved away. */
  reopen(): void {
    this.#reopen = true;
  }

  /** Writes the lines that wait, and closes. Waits at most CLOSE_MS for the disk. */
  close(): Promise<void> {
    return within(CLOSE_MS, this.#close());
  }

  async #close(): Promise<void> {
    clearInterval(this.#daily);
    this.#archive.close();
    this.#disarm();
    await this.#writing;
    this.#disarm();
    this.#closed = true;
    if (this.#waiting !== '' || this.#dropped > 0) await this.#write();
    await this.#closeFile();
  }
}

function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, at + 1)) lines++;
  return lines;
}
