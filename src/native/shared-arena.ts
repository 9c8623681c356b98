/**
 * The content arena as a thread sees it. What Atomics can do on the shared words is done here; memory is taken and given
 * back in C++ (native/arena.cc), on the same words.
 */
import { readSync, writeSync } from 'node:fs';
import { BrokenInvariant } from '../base/broken-invariant.ts';
import { RelayError } from '../base/errors.ts';
import { addon, type Native } from './addon.ts';
import { type Arena, type ByteRange, FIELD_UNKNOWN, NO_FIELD } from './contract.ts';

const UNIT_BYTES = 1024;
const CHUNK_UNITS = 64;
// Word positions of ArenaHeader and BlockRecord in native/arena.h.
const HEADER_BYTES = 256;
const CHUNK_COUNT = 1;
const FREE_UNITS = 2;
const CHUNKS_AT_LOW = 4;
const CHUNKS_AT_HIGH = 5;
const RECORD_WORDS = 16;
const NEXT = 0;
const REFS = 1;
const STATE = 2;
const FLAGS = 3;
const LENGTH_LOW = 4;
const LENGTH_HIGH = 5;
const OFFSET_LOW = 6;
const OFFSET_HIGH = 7;
const FIELDS = 6;
const FD = 8;
const SPILL = 9;
const USED = 10;
const UNITS = 11;
const CLIENT = 12;
const NETWORK = 13;
const HELD = 14;
const ENVELOPE = 15;
const IN_FILE = 1;
const SPILL_FILE = 2;
const CLAIMED = 4;
const MARKED = 16;

export class SharedArena implements Arena {
  readonly buffer: SharedArrayBuffer;
  readonly totalBytes: number;
  readonly native: Native;
  readonly #header: Int32Array;
  readonly #bytes: Buffer;
  /** Records of all blocks, by the number of their first unit. */
  readonly #words: Int32Array;
  readonly #chunksAt: number;
  readonly #spillDir: string;

  constructor(buffer: SharedArrayBuffer, spillDir: string, fresh: boolean) {
    const memory = Buffer.from(buffer);
    this.#bytes = memory;
    this.native = fresh ? addon.arenaCreate(memory, spillDir) : addon.arenaAttach(memory, spillDir);
    this.buffer = buffer;
    this.#spillDir = spillDir;
    this.#header = new Int32Array(buffer, 0, HEADER_BYTES / 4);
    const units = (this.#header[CHUNK_COUNT] as number) * CHUNK_UNITS;
    this.totalBytes = units * UNIT_BYTES;
    this.#chunksAt =
      (this.#header[CHUNKS_AT_HIGH] as number) * 0x1_0000_0000 +
      ((this.#header[CHUNKS_AT_LOW] as number) >>> 0);
    this.#words = new Int32Array(buffer, HEADER_BYTES, units * RECORD_WORDS);
  }

  freeBytes(): number {
    return Atomics.load(this.#header, FREE_UNITS) * UNIT_BYTES;
  }

  heldBytes(handle: number): number {
    let units = 0;
    for (let block = handle; block >= 0; block = this.#word(block, NEXT) - 1)
      units += this.#word(block, UNITS);
    return units * UNIT_BYTES;
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
    for (let block = handle; block >= 0; block = this.#word(block, NEXT) - 1) {
      const used = this.#word(block, USED);
      if (used > 0) views.push(Buffer.from(this.buffer, this.#chunksAt + block * UNIT_BYTES, used));
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

  holdEnvelope(handle: number, client: number, network: number, kib: number): void {
    const at = this.#at(handle);
    this.#words[at + CLIENT] = client;
    this.#words[at + NETWORK] = network;
    Atomics.store(this.#words, at + ENVELOPE, kib);
  }

  takeHeld(handle: number, into: Int32Array): boolean {
    const at = this.#at(handle);
    const words = this.#words;
    into[0] = words[at + CLIENT] as number;
    into[1] = words[at + NETWORK] as number;
    const content = Atomics.exchange(words, at + HELD, 0);
    const envelope = Atomics.exchange(words, at + ENVELOPE, 0);
    const spilled = content !== 0 && ((words[at + FLAGS] as number) & SPILL_FILE) !== 0;
    into[2] = content;
    // Where octets were cut out of a spill file, it begins so much later, and is as long as it was.
    const fileBytes = this.#wide(handle, OFFSET_LOW, OFFSET_HIGH) + this.lengthBytes(handle);
    into[3] = spilled ? Math.ceil(fileBytes / 1024) : 0;
    into[4] = envelope;
    return (content | envelope) !== 0;
  }

  fieldAt(handle: number, field: number): number {
    return this.#word(handle, FLAGS) & IN_FILE ? FIELD_UNKNOWN : this.#word(handle, FIELDS + field) >>> 0;
  }

  textAt(handle: number, from: number, to: number): string {
    if (this.#word(handle, FLAGS) & IN_FILE) return '';
    const start = this.#chunksAt + handle * UNIT_BYTES;
    return this.#bytes.toString('latin1', start + from, start + Math.min(to, this.#word(handle, USED)));
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

  marked(handle: number): boolean {
    return (this.#word(handle, FLAGS) & MARKED) !== 0;
  }

  cut(handle: number, ranges: readonly ByteRange[]): void {
    const bytes = ranges.reduce((sum, { from, to }) => sum + to - from, 0);
    const file = this.file(handle);
    if (file === null) this.#cutMemory(handle, ranges);
    else this.#cutFile(handle, file, ranges, bytes);
    this.#setWide(handle, LENGTH_LOW, LENGTH_HIGH, this.lengthBytes(handle) - bytes);
  }

  /** In one pass: there may be as many ranges as a header has room for. */
  #cutMemory(handle: number, ranges: readonly ByteRange[]): void {
    let base = 0;
    let next = 0;
    for (let block = handle; block >= 0 && next < ranges.length; block = this.#word(block, NEXT) - 1) {
      const start = this.#chunksAt + block * UNIT_BYTES - base;
      const end = base + this.#word(block, USED);
      let [read, write] = [base, base];
      while (read < end) {
        const range = ranges[next];
        const keepTo = Math.min(end, range?.from ?? end);
        if (keepTo > read) {
          if (write < read) this.#bytes.copyWithin(start + write, start + read, start + keepTo);
          write += keepTo - read;
        }
        read = Math.max(read, keepTo);
        if (range === undefined || keepTo === end) break;
        read = Math.min(end, range.to);
        if (range.to <= end) next++;
      }
      this.#words[this.#at(block) + USED] = write - base;
      base = end;
    }
    for (let field = FIELDS; field < FIELDS + 2; field++) {
      const place = this.#word(handle, field) >>> 0;
      if (place <= NO_FIELD) continue;
      const before = ranges.reduce((sum, { from, to }) => sum + (to <= place ? to - from : 0), 0);
      this.#words[this.#at(handle) + field] = place - before;
    }
  }

  /** What is kept before the end of the last range moves up to there, and the content begins so much later. */
  #cutFile(
    handle: number,
    { fd, offset }: { fd: number; offset: number },
    ranges: readonly ByteRange[],
    bytes: number,
  ): void {
    const end = ranges.at(-1)?.to ?? 0;
    const head = this.head(handle, end);
    if (head.length < end) throw new RelayError('content_missing', 'a spill file ends before its content');
    let at = 0;
    const kept = ranges.map(({ from, to }) => {
      const part = head.subarray(at, from);
      at = to;
      return part;
    });
    const before = Buffer.concat(kept);
    for (let done = 0; done < before.length; )
      done += writeSync(fd, before, done, before.length - done, offset + bytes + done);
    this.#setWide(handle, OFFSET_LOW, OFFSET_HIGH, offset + bytes);
  }

  #setWide(handle: number, low: number, high: number, value: number): void {
    const at = this.#at(handle);
    this.#words[at + low] = value % 0x1_0000_0000;
    this.#words[at + high] = Math.floor(value / 0x1_0000_0000);
  }

  #at(handle: number): number {
    return handle * RECORD_WORDS;
  }

  #word(handle: number, word: number): number {
    return this.#words[this.#at(handle) + word] as number;
  }

  #wide(handle: number, low: number, high: number): number {
    return this.#word(handle, high) * 0x1_0000_0000 + (this.#word(handle, low) >>> 0);
  }
}
