/**
 * What becomes of event files that are complete: they are compressed, and removed when they are too old or too many. All
 * of it beside the mail: one file at a time, with pauses, and what fails is tried again when the next file begins. A
 * crash leaves the plain file or the whole compressed one.
 */
import { createWriteStream } from 'node:fs';
import { readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { constants, createZstdCompress } from 'node:zlib';
import type { Log } from '../base/log.ts';
import { openRegular } from '../base/regular-file.ts';
import { steadyMs } from '../base/steady.ts';
import { COMPRESSED, type EventFileName, eventFiles, PART } from './event-names.ts';

export interface EventArchiveOptions {
  dir: string;
  /** Its files are compressed here; those of all processes are removed. */
  process: number;
  keepDays: number;
  /** Of all files in the folder. */
  maxTotalBytes: number;
  log: Log;
  now: () => number;
}

const DAY_MS = 86_400_000;
const CHUNK_BYTES = 262_144;
const ZSTD = {
  params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
};

export class EventArchive {
  readonly #options: EventArchiveOptions;
  readonly #ended = new AbortController();
  #working = false;
  /** The file to be left alone in a round that was asked for while another one ran; null: none was. */
  #next: string | null = null;
  #failed = false;

  constructor(options: EventArchiveOptions) {
    this.#options = options;
  }

  /** Looks after all files but the present one ('' where there is none). Never waits, never throws. */
  tidy(present: string): void {
    this.#next = present;
    if (!this.#working) void this.#work();
  }

  /** Breaks off; a later life goes on. */
  close(): void {
    this.#next = null;
    this.#ended.abort();
  }

  async #work(): Promise<void> {
    this.#working = true;
    while (this.#next !== null) {
      const present = this.#next;
      this.#next = null;
      try {
        await this.#round(present);
        this.#failed = false;
      } catch (error) {
        if (!this.#failed && !this.#ended.signal.aborted)
          this.#options.log.warn('events.not_archived', { path: this.#options.dir, error });
        this.#failed = true;
      }
    }
    this.#working = false;
  }

  async #round(present: string): Promise<void> {
    const { dir, process } = this.#options;
    const entries = await readdir(dir, { withFileTypes: true });
    // A link or a pipe is none of ours.
    const names = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
    const left = await this.#prune(eventFiles(names), present);
    const parts = names.filter((name) => name.endsWith(COMPRESSED + PART));
    for (const own of eventFiles(parts.map((name) => name.slice(0, -PART.length))))
      if (own.process === process) await rm(join(dir, own.name + PART), { force: true });
    for (const file of left) {
      if (this.#ended.signal.aborted) return;
      if (file.process !== process || file.compressed || file.name === present) continue;
      await compress(join(dir, file.name), this.#ended.signal);
    }
  }

  /** Removes files that are too old, then the oldest while all are too big. @returns those that are left. */
  async #prune(files: EventFileName[], present: string): Promise<EventFileName[]> {
    const { dir, keepDays, maxTotalBytes, now } = this.#options;
    const firstDay = new Date(now() - keepDays * DAY_MS).toISOString().slice(0, 10);
    /** The newest file of each process may be the one it writes to. */
    const newest = new Set(new Map(files.map(({ process, name }) => [process, name])).values());
    let bytes = 0;
    const left: EventFileName[] = [];
    for (const file of files.toReversed()) {
      const { size } = await stat(join(dir, file.name)).catch(() => ({ size: 0 }));
      const isOld = file.day < firstDay && file.name !== present;
      const isTooMuch = bytes + size > maxTotalBytes && !newest.has(file.name);
      if (isOld || isTooMuch) await this.#remove(file.name);
      else {
        bytes += size;
        left.push(file);
      }
    }
    return left.reverse();
  }

  async #remove(name: string): Promise<void> {
    const { dir, log } = this.#options;
    await rm(join(dir, name), { force: true }).catch((error: unknown) => {
      log.warn('events.not_removed', { path: join(dir, name), error });
    });
  }
}

/** Another process may have removed the file meanwhile: then nothing is left to do. */
async function compress(path: string, signal: AbortSignal): Promise<void> {
  const part = path + COMPRESSED + PART;
  try {
    await pipeline(
      (await openRegular(path)).createReadStream({ highWaterMark: CHUNK_BYTES }),
      unhurried,
      createZstdCompress(ZSTD),
      createWriteStream(part, { mode: 0o600, flush: true }),
      { signal },
    );
    await rename(part, path + COMPRESSED);
    await unlink(path);
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Rests after each chunk for as long as it took: half of one core is left to mail. */
async function* unhurried(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    const sinceMs = steadyMs();
    yield chunk;
    await pause(steadyMs() - sinceMs, undefined, { ref: false });
  }
}
