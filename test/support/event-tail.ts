/**
 * Follows the event log of a relay (`<data_dir>/events/*.jsonl`) as it grows, without sleeping: the kernel says
 * when a file changed. Keeps every event seen, so that a waiter also finds what happened before it asked.
 * A line torn by kill -9 is counted, never an error.
 */
import {
  closeSync,
  existsSync,
  type FSWatcher,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  watch,
} from 'node:fs';
import { join } from 'node:path';

/** One line of the event log; the fields beyond `type` are those of docs/events.md. */
export type LoggedEvent = Record<string, unknown>;

import { PATIENCE } from './wait.ts';

interface Waiter {
  predicate: (events: readonly LoggedEvent[]) => boolean;
  resolve: () => void;
}

interface Follower {
  fd: number;
  inode: number;
  offset: number;
  rest: string;
}

export class EventTail {
  readonly events: LoggedEvent[] = [];
  /** Lines that were not JSON. */
  torn = 0;
  readonly #dir: string;
  readonly #watcher: FSWatcher;
  readonly #files = new Map<string, Follower>();
  readonly #waiters = new Set<Waiter>();
  readonly #chunk = Buffer.allocUnsafe(1 << 20);

  constructor(dir: string) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#dir = dir;
    // Its going away is told too.
    this.#watcher = watch(dir, () => existsSync(dir) && this.read());
    this.read();
  }

  /** The first event, seen already or still to come, for which `predicate` holds. Rejects after `timeoutMs`. */
  async one(
    what: string,
    predicate: (event: LoggedEvent) => boolean,
    timeoutMs = 15_000,
  ): Promise<LoggedEvent> {
    let found: LoggedEvent | undefined;
    let next = 0;
    await this.until(
      what,
      (events) => {
        for (; next < events.length; next++) {
          const event = events[next] as LoggedEvent;
          if (!predicate(event)) continue;
          found = event;
          return true;
        }
        return false;
      },
      timeoutMs,
    );
    return found as LoggedEvent;
  }

  /** Waits until `predicate` holds for all events so far. Rejects after that time, showing the last events. */
  until(
    what: string,
    predicate: (events: readonly LoggedEvent[]) => boolean,
    idleMs = 15_000,
  ): Promise<void> {
    const timeoutMs = idleMs * PATIENCE;
    this.read();
    if (predicate(this.events)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { predicate, resolve: () => finish(resolve) };
      const timer = setTimeout(() => {
        this.read();
        const last = this.events.slice(-5).map((event) => JSON.stringify(event));
        const seen = `${this.events.length} events, the last:\n  ${last.join('\n  ')}`;
        finish(() => reject(new Error(`no ${what} within ${timeoutMs} ms; ${seen}`)));
      }, timeoutMs);
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        settle();
      };
      this.#waiters.add(waiter);
    });
  }

  /** Reads what was appended since the last call and wakes the waiters it satisfies. */
  read(): void {
    const names = readdirSync(this.#dir).filter((name) => name.endsWith('.jsonl'));
    for (const name of names.sort()) this.#readFile(name);
    for (const waiter of [...this.#waiters]) if (waiter.predicate(this.events)) waiter.resolve();
  }

  close(): void {
    this.#watcher.close();
    for (const file of this.#files.values()) closeSync(file.fd);
    this.#files.clear();
  }

  #readFile(name: string): void {
    const path = join(this.#dir, name);
    let file = this.#files.get(name);
    const { ino: inode } = statSync(path);
    // Rotated by hand: another file of the same name.
    if (file !== undefined && file.inode !== inode) {
      closeSync(file.fd);
      file = undefined;
    }
    if (file === undefined) {
      file = { fd: openSync(path, 'r'), inode, offset: 0, rest: '' };
      this.#files.set(name, file);
    }
    while (file.offset < fstatSync(file.fd).size) {
      const length = readSync(file.fd, this.#chunk, 0, this.#chunk.length, file.offset);
      if (length === 0) return;
      // A multi-byte character cut by the end of the chunk would be damaged: end the chunk at its last newline.
      const whole = this.#chunk.subarray(0, length).lastIndexOf(10) + 1 || length;
      file.offset += whole;
      this.#take(file, this.#chunk.toString('utf8', 0, whole));
    }
  }

  #take(file: Follower, text: string): void {
    const lines = (file.rest + text).split('\n');
    file.rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') continue;
      try {
        this.events.push(JSON.parse(line) as LoggedEvent);
      } catch {
        this.torn++;
      }
    }
  }
}
