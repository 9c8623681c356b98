/**
 * Appends lines to `<dir>/<UTC date>-<n>.jsonl` (`….p1.jsonl` for relay process 1). Lines are gathered, written off the
 * main path, and files are rotated by size and day. This never holds up mail: when the disk does not take lines, or not
 * fast enough, lines are dropped and counted, and the count is written into the file as soon as it can be.
 */
import { type FileHandle, mkdir, open, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';

export interface EventFileOptions {
  dir: string;
  /** Number of the relay process; default 0. Each process writes, counts and removes its own files. */
  process?: number;
  /** Name of the node, which stands in every line. */
  node: string;
  maxFileBytes: number;
  keepFiles: number;
  /** Most bytes of lines that wait for the disk. */
  maxBufferBytes: number;
  log: Log;
  now?: () => number;
}

/** How long a line waits in memory at most while lines keep coming; after a pause the first line is written at once. */
const FLUSH_MS = 25;
const FLUSH_BYTES = 262_144;
/** How long `close` waits for the disk. */
const CLOSE_MS = 5000;

export class EventFile {
  readonly #options: EventFileOptions;
  readonly #now: () => number;
  readonly #suffix: string;
  readonly #pattern: RegExp;
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
    const { process = 0 } = options;
    this.#suffix = process === 0 ? '.jsonl' : `.p${process}.jsonl`;
    this.#pattern = new RegExp(`^(\\d{4}-\\d\\d-\\d\\d)-(\\d{4,})${this.#suffix.replaceAll('.', '\\.')}$`);
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
    const names = (await readdir(this.#options.dir)).filter((name) => this.#pattern.test(name)).sort();
    const newest = names.findLast((name) => name.startsWith(day));
    let number = newest === undefined ? 1 : Number(this.#pattern.exec(newest)?.[2]);
    for (;;) {
      this.#name = `${day}-${String(number).padStart(4, '0')}${this.#suffix}`;
      const file = await open(join(this.#options.dir, this.#name), 'a', 0o600);
      const { size } = await file.stat();
      if (size < this.#options.maxFileBytes) {
        this.#file = file;
        this.#size = size;
        break;
      }
      await file.close();
      number++;
    }
    if (!names.includes(this.#name)) names.push(this.#name);
    await this.#prune(names);
    return this.#file;
  }

  async #prune(names: string[]): Promise<void> {
    for (const name of names.slice(0, Math.max(0, names.length - this.#options.keepFiles))) {
      await unlink(join(this.#options.dir, name)).catch((error: unknown) => {
        this.#options.log.warn('events.not_removed', { path: join(this.#options.dir, name), error });
      });
    }
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
