/**
 * One root of the distributed provider: a folder, best on a disk of its own. Does one operation after another, each
 * with a time limit, so that a disk that hangs costs one thread of the pool, and callers no more than that time. A
 * root that fails is put aside, is tried again with growing delays, and returns by itself when a small write succeeds.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Piece } from '../bundle.ts';
import type { SayNote } from '../notes.ts';
import { closeFd, errnoOf, openFile, remove, syncFd, writeNew } from './files.ts';

/** Errors that are not the root's fault: the process has no descriptors left, or the name exists. */
const NOT_THE_ROOT = new Set(['EMFILE', 'ENFILE', 'EEXIST']);
const LONGEST_DELAY_MS = 60_000;
/** Most operations that wait for a root; further ones are refused, and go to another root. */
const MAX_WAITING = 64;
/** Number of day folders that are kept open, to make names in them durable. */
const OPEN_FOLDERS = 4;

export interface RootOptions {
  /** The first pause before a root that failed is tried again. */
  firstDelayMs: number;
  /** Time limit of the small write that tries whether the root works. */
  probeTimeoutMs: number;
  say: SayNote;
  /** Called when the root works again. */
  returned(root: Root): void;
}

export class RootError extends Error {
  readonly code: string;

  constructor(path: string, code: string, message: string) {
    super(`${path}: ${message}`);
    this.code = code;
  }
}

export class Root {
  readonly path: string;
  readonly #options: RootOptions;
  #tail: Promise<void> = Promise.resolve();
  #waiting = 0;
  /** Number of operations that have exceeded their time and not returned yet. */
  #overdue = 0;
  /** Why the root is put aside; null when it is in use. */
  #fault: { code: string; message: string } | null = null;
  #delayMs: number;
  #timer: NodeJS.Timeout | null = null;
  #folders = new Map<string, number>();
  #used = false;
  #wasMounted = false;
  #closed = false;

  constructor(path: string, options: RootOptions) {
    this.path = path;
    this.#options = options;
    this.#delayMs = options.firstDelayMs;
    this.run(() => this.#check(), options.probeTimeoutMs).catch(() => {}); // it is aside then, and its note says why
  }

  /** Whether it takes new replicas. */
  get isHealthy(): boolean {
    return this.#fault === null && this.#waiting < MAX_WAITING;
  }

  /** Whether it failed, and no small write has succeeded since. A root that is only busy is not aside. */
  get isAside(): boolean {
    return this.#fault !== null;
  }

  /** Whether it can be read. A full or read-only disk can; one that hangs cannot. */
  get isReadable(): boolean {
    return this.#overdue === 0 && this.#waiting < MAX_WAITING;
  }

  /** Why it takes no new replicas, for messages. */
  get fault(): { code: string; message: string } | null {
    return this.#fault ?? (this.isHealthy ? null : { code: 'EAGAIN', message: 'too much waits for it' });
  }

  /**
   * Does `work` when everything asked before is done. Rejects with its error, or with ETIMEDOUT after `limitMs`,
   * waiting included. `work` that has begun goes on then, and `late` gets its value.
   */
  run<T>(work: () => Promise<T>, limitMs: number, late?: (value: T) => void): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let state: 'waits' | 'runs' | 'overdue' | 'given-up' = 'waits';
    const timer = setTimeout(() => {
      const error = new RootError(this.path, 'ETIMEDOUT', `no answer within ${Math.round(limitMs)} ms`);
      if (state === 'runs') {
        state = 'overdue';
        this.#overdue++;
      } else state = 'given-up';
      this.setAside(error);
      reject(error);
    }, limitMs);
    this.#waiting++;
    this.#tail = this.#tail.then(async () => {
      try {
        if (state === 'given-up') return;
        state = 'runs';
        const value = await work();
        if (state === ('overdue' as typeof state)) late?.(value);
        resolve(value);
      } catch (error) {
        this.#judge(error);
        reject(error);
      } finally {
        clearTimeout(timer);
        this.#waiting--;
        if (state === ('overdue' as typeof state)) this.#overdue--;
      }
    });
    return promise;
  }

  #judge(error: unknown): void {
    const code = errnoOf(error);
    if (code !== null && !NOT_THE_ROOT.has(code)) this.setAside(error as NodeJS.ErrnoException);
  }

  /** Puts the root aside: it takes no new replicas until a small write succeeds. */
  setAside(error: unknown): void {
    if (this.#fault !== null || this.#closed) return;
    const code = errnoOf(error) ?? 'EIO';
    const said = error instanceof Error ? error.message : String(error);
    this.#fault = { code, message: said.includes(this.path) ? said : `${this.path}: ${said}` };
    this.#options.say({
      event: 'storage.root_aside',
      fields: { root: this.path, code, error: this.#fault.message, retry_ms: this.#delayMs },
    });
    this.#probeLater();
  }

  #probeLater(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#probe(), this.#delayMs).unref();
    this.#delayMs = Math.min(LONGEST_DELAY_MS, this.#delayMs * 2);
  }

  async #probe(): Promise<void> {
    const path = join(this.path, `.probe-${randomBytes(6).toString('hex')}`);
    try {
      if (this.#overdue > 0) throw new RootError(this.path, 'ETIMEDOUT', 'an operation still hangs');
      await this.run(async () => {
        await this.#check();
        await writeNew(path, [Buffer.from('ProtoRelay tries whether this disk works\n')]);
        await remove(path);
      }, this.#options.probeTimeoutMs);
    } catch {
      this.#probeLater(); // why it is aside was logged when it began
      return;
    }
    if (this.#closed) return;
    this.#fault = null;
    this.#options.say({ event: 'storage.root_returned', fields: { root: this.path } });
    this.#options.returned(this);
  }

  /** Within `run`: makes a file of these pieces, and puts it and its name on stable storage. */
  async create(path: string, pieces: Piece[]): Promise<void> {
    for (let again = false; ; again = true) {
      try {
        const folder = await this.#folder(dirname(path));
        await writeNew(join(this.path, path), pieces);
        await syncFd(folder);
        this.#delayMs = this.#options.firstDelayMs;
        return;
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT' || again) throw error;
        await this.#forgetFolders(); // the root was emptied, or another disk is mounted
      }
    }
  }

  /** Within `run`: deletes a file if it exists. Throws when that is unknown, because the root is gone. */
  async delete(path: string): Promise<void> {
    if (!(await remove(join(this.path, path)))) await this.#check();
  }

  /** Makes a folder below the root where it is missing, durably; returns its path. */
  async makeFolder(folder: string): Promise<string> {
    await this.#check();
    let path = this.path;
    for (const name of folder.split('/')) {
      const above = path;
      path = join(path, name);
      try {
        await mkdir(path, { mode: 0o700 });
        await syncFolder(above);
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
      }
    }
    return path;
  }

  /** The descriptor of a folder below the root. */
  async #folder(folder: string): Promise<number> {
    const known = this.#folders.get(folder);
    if (known !== undefined) return known;
    const fd = await openFile(await this.makeFolder(folder), 'r');
    this.#folders.set(folder, fd);
    for (const [oldest, oldFd] of this.#folders) {
      if (this.#folders.size <= OPEN_FOLDERS) break;
      this.#folders.delete(oldest);
      await closeFd(oldFd);
    }
    return fd;
  }

  /** Within `run`: removes a folder if it is empty. */
  async removeFolder(folder: string): Promise<void> {
    try {
      await rmdir(join(this.path, folder));
      await this.#forgetFolders();
    } catch (error) {
      if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'ENOENT') throw error;
    }
  }

  async #forgetFolders(): Promise<void> {
    const fds = [...this.#folders.values()];
    this.#folders.clear();
    for (const fd of fds) await closeFd(fd);
  }

  /**
   * Throws when the root is not what it was: it is gone, or its disk is not mounted any more (then its path is an empty
   * folder of another disk). The root is created when it is first used; after that only an operator may create it.
   */
  async #check(): Promise<void> {
    if (!this.#used) await this.#make();
    const { dev } = await stat(this.path);
    const isMounted = dev !== (await stat(dirname(this.path))).dev;
    if (this.#wasMounted && !isMounted)
      throw new RootError(this.path, 'ENODEV', 'the disk that was mounted there is gone');
    this.#wasMounted = isMounted;
    this.#used = true;
  }

  async #make(): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true, mode: 0o700 });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      throw new RootError(this.path, 'ENOTDIR', 'is not a folder');
    }
  }

  /**
   * Whether this queue has ever written to the root. If not, a missing file says nothing: a disk that was not mounted
   * since we started looks the same. Throws when the root itself is gone.
   */
  async knows(owner: string): Promise<boolean> {
    await this.#check();
    try {
      await stat(join(this.path, owner));
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  /** Waits for operations under way, at most `limitMs`. */
  async close(limitMs: number): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#overdue > 0) return;
    await this.run(() => this.#forgetFolders(), limitMs).catch(() => {}); // the root hangs: its descriptors end with the process
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const fd = await openFile(path, 'r');
  try {
    await syncFd(fd);
  } finally {
    await closeFd(fd);
  }
}
