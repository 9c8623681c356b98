/**
 * The content arena as a thread sees it. What Atomics can do on the shared words is done here; taking and giving back
 * chunks is C++ (native/arena.cc), which reads and writes the same words.
 */
import { readSync } from 'node:fs';
import { BrokenInvariant } from '../base/broken-invariant.ts';
import type { Arena } from '../native.ts';
import { addon, type Native } from './addon.ts';

const CHUNK_BYTES = 65536;
// Word positions of ArenaHeader and ChunkRecord in native/arena.h.
const HEADER_WORDS = 16;
const CHUNK_COUNT = 1;
const FREE_COUNT = 4;
const CHUNKS_AT = 7;
const RECORD_WORDS = 16;
const NEXT = 0;
const REFS = 1;
const STATE = 2;
const FLAGS = 3;
const LENGTH_LOW = 4;
const LENGTH_HIGH = 5;
const OFFSET_LOW = 6;
const OFFSET_HIGH = 7;
const FD = 8;
const SPILL = 9;
const USED = 10;
const IN_FILE = 1;
const SPILL_FILE = 2;
const CLAIMED = 4;

export class SharedArena implements Arena {
  readonly buffer: SharedArrayBuffer;
  readonly chunkCount: number;
  readonly native: Native;
  readonly #words: Int32Array;
  readonly #chunksAt: number;
  readonly #spillDir: string;

  constructor(buffer: SharedArrayBuffer, spillDir: string, fresh: boolean) {
    const memory = Buffer.from(buffer);
    this.native = fresh ? addon.arenaCreate(memory, spillDir) : addon.arenaAttach(memory, spillDir);
    this.buffer = buffer;
    this.#spillDir = spillDir;
    const header = new Int32Array(buffer, 0, HEADER_WORDS);
    this.chunkCount = header[CHUNK_COUNT] as number;
    this.#chunksAt = header[CHUNKS_AT] as number;
    this.#words = new Int32Array(buffer, 0, HEADER_WORDS + this.chunkCount * RECORD_WORDS);
  }

  freeChunks(): number {
    return Atomics.load(this.#words, FREE_COUNT);
  }

  store(bytes: Uint8Array): number {
    return addon.arenaStore(this.native, bytes);
  }

  storeFile(fd: number, offset: number, lengthBytes: number): number {
    return addon.arenaStoreFile(this.native, fd, offset, lengthBytes);
  }

  lengthBytes(handle: number): number {
    return this.#wide(handle, LENGTH_LOW, LENGTH_HIGH);
  }

  retain(handle: number): void {
    if (Atomics.add(this.#words, this.#at(handle) + REFS, 1) <= 0) {
      throw new BrokenInvariant(`content ${handle} retained after its last release`);
    }
  }

  release(handle: number): void {
    addon.arenaRelease(this.native, handle);
  }

  moveState(handle: number, from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, this.#at(handle) + STATE, from, to) === from;
  }

  parts(handle: number): Buffer[] {
    const views: Buffer[] = [];
    if (this.#word(handle, FLAGS) & IN_FILE) return views;
    for (let chunk = handle; chunk >= 0; chunk = this.#word(chunk, NEXT) - 1) {
      const used = this.#word(chunk, USED);
      if (used > 0) views.push(Buffer.from(this.buffer, this.#chunksAt + chunk * CHUNK_BYTES, used));
    }
    return views;
  }

  file(handle: number): { fd: number; offset: number; path: string | null } | null {
    const flags = this.#word(handle, FLAGS);
    if (!(flags & IN_FILE)) return null;
    const unclaimed = (flags & SPILL_FILE) !== 0 && (flags & CLAIMED) === 0;
    const path = unclaimed ? `${this.#spillDir}/${this.#word(handle, SPILL)}.spill` : null;
    return { fd: this.#word(handle, FD), offset: this.#wide(handle, OFFSET_LOW, OFFSET_HIGH), path };
  }

  claimFile(handle: number): void {
    Atomics.or(this.#words, this.#at(handle) + FLAGS, CLAIMED);
  }

  head(handle: number, maxBytes: number): Buffer {
    const file = this.file(handle);
    if (file === null) return Buffer.concat(this.parts(handle), Math.min(maxBytes, this.lengthBytes(handle)));
    const bytes = Buffer.alloc(Math.min(maxBytes, this.lengthBytes(handle)));
    let done = 0;
    while (done < bytes.length) {
      const got = readSync(file.fd, bytes, done, bytes.length - done, file.offset + done);
      if (got === 0) break;
      done += got;
    }
    return bytes.subarray(0, done);
  }

  #at(handle: number): number {
    return HEADER_WORDS + handle * RECORD_WORDS;
  }

  #word(handle: number, word: number): number {
    return this.#words[this.#at(handle) + word] as number;
  }

  #wide(handle: number, low: number, high: number): number {
    return this.#word(handle, high) * 0x1_0000_0000 + (this.#word(handle, low) >>> 0);
  }
}
