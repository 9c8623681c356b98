/**
 * Where log lines go: a file or standard output, one write for each line. The program never waits for a reader: what a
 * pipe, a terminal or a full disk does not take waits in memory, up to a bound, and is tried again; beyond the bound lines
 * are dropped and counted. For this standard output is opened anew, because O_NONBLOCK on its descriptor would change it
 * for all who share it. A regular file is written as usual: the kernel takes the lines or refuses.
 */
import { closeSync, constants, fstatSync, openSync, type Stats, statSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';

const { O_APPEND, O_CREAT, O_NONBLOCK, O_RDWR, O_WRONLY } = constants;
const FILE_MODE = 0o600;
const RETRY_MS = 100;
/** How long `close` waits for a reader. */
const CLOSE_WAIT_MS = 300;
const CLOSE_STEP_MS = 10;

export interface LogSinkOptions {
  /** Absolute path, or null for standard output. */
  file: string | null;
  /** Octets that may wait; beyond, lines are dropped. */
  maxWaitingBytes: number;
  /** Called when all that waited is written, and lines were dropped meanwhile: with their number, once. */
  flowsAgain(dropped: number): void;
}

export class LogSink {
  readonly #options: LogSinkOptions;
  #fd: number;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  #timer: NodeJS.Timeout | null = null;

  /** @throws Error when the file cannot be opened. */
  constructor(options: LogSinkOptions) {
    this.#options = options;
    this.#fd = options.file === null ? openStandard(1) : openFile(options.file);
  }

  /** Takes one line with its newline. Never waits, never throws. */
  write(line: string): void {
    const bytes = Buffer.from(line, 'utf8');
    if (this.#waiting.length > 0) this.#flush();
    const left = this.#waiting.length > 0 ? bytes : this.#put(bytes);
    if (left.length === 0) return;
    if (this.#waitingBytes + left.length > this.#options.maxWaitingBytes) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(left);
    this.#waitingBytes += left.length;
    this.#timer ??= setTimeout(() => this.#retry(), RETRY_MS).unref();
  }

  /**
   * After the file was moved away (rotation): goes on in a new file of the same name.
   * @throws Error when it cannot be opened; then it goes on in the old one.
   */
  reopen(): void {
    const { file } = this.#options;
    if (file === null) return;
    const fresh = openFile(file);
    closeSync(this.#fd);
    this.#fd = fresh;
  }

  /** Writes what waits, as far as it is taken soon. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    const cell = new Int32Array(new SharedArrayBuffer(4));
    for (let ms = 0; ms < CLOSE_WAIT_MS && this.#waiting.length > 0; ms += CLOSE_STEP_MS) {
      this.#flush();
      if (this.#waiting.length > 0) Atomics.wait(cell, 0, 0, CLOSE_STEP_MS);
    }
    if (this.#options.file !== null) closeSync(this.#fd);
    this.#fd = -1;
  }

  #retry(): void {
    this.#timer = null;
    this.#flush();
    if (this.#waiting.length > 0) this.#timer = setTimeout(() => this.#retry(), RETRY_MS).unref();
  }

  /** Writes line by line: others may write to the same pipe, and writes up to PIPE_BUF are not mixed with theirs. */
  #flush(): void {
    let done = 0;
    for (; done < this.#waiting.length; done++) {
      const bytes = this.#waiting[done] as Buffer;
      const left = this.#put(bytes);
      this.#waitingBytes -= bytes.length - left.length;
      if (left.length === 0) continue;
      this.#waiting[done] = left;
      break;
    }
    this.#waiting.splice(0, done);
    if (this.#waiting.length > 0 || this.#dropped === 0) return;
    const dropped = this.#dropped;
    this.#dropped = 0;
    this.#options.flowsAgain(dropped);
  }

  /** Writes; returns what was not taken. */
  #put(bytes: Buffer): Buffer {
    try {
      return bytes.subarray(writeSync(this.#fd, bytes));
    } catch {
      return bytes;
    }
  }
}

/** Writes to standard error what it takes at once: for last words, which must not delay the end. */
export function sayAtOnce(text: string): void {
  try {
    writeSync(openStandard(2), text);
  } catch {
    // Nobody reads standard error.
  }
}

function openFile(path: string): number {
  let isPipe = false;
  try {
    isPipe = statSync(path).isFIFO();
  } catch {
    // It does not exist yet.
  }
  // With O_WRONLY a named pipe that nobody reads yet cannot be opened (ENXIO).
  return openSync(path, (isPipe ? O_RDWR : O_WRONLY) | O_APPEND | O_CREAT | O_NONBLOCK, FILE_MODE);
}

/** A descriptor of standard output or error on which a write does not wait, where that is possible. */
function openStandard(fd: 1 | 2): number {
  let stats: Stats;
  try {
    stats = fstatSync(fd);
  } catch {
    return fd; // closed: every write fails
  }
  if (stats.isFile()) return fd;
  try {
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_APPEND | O_NONBLOCK);
  } catch {
    // A socket (journald's, say) cannot be opened anew; wrapping it in a Socket makes it non-blocking.
    if (stats.isSocket() || stats.isFIFO()) new Socket({ fd, readable: false }).on('error', () => {}).unref();
    return fd;
  }
}
