/**
 * What is surely not on the suppression list: a blocked Bloom filter over the hashes of its entries, in a file of the host's
 * data folder that every thread and process has mapped. Whoever adds an entry sets its bits before the entry is
 * durable, so all see it at once and without a message. A bit is never taken back: what the filter holds is looked up in
 * the table.
 *
 * The file outlives its processes, and is the way to a quick start. Its header says up to which version of each table it is
 * complete, and up to which it was when it was last synced to the disk: after a crash of the machine only that counts.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { SuppressionMark } from '../mail/suppression.ts';

export const filterPath = (dataDir: string): string => join(dataDir, 'suppression.filter');

const MAGIC = 0x50525346;
const FORMAT = 1;
const HEADER_BYTES = 16_384;
const BLOCK_BYTES = 64;
const BLOCK_WORDS = BLOCK_BYTES / 4;
const FIRST_BLOCK = HEADER_BYTES / 4;
/** Tables (shards, or processes with a queue of their own) that a filter can follow. */
export const MAX_PARTS = 256;

/** Words of the header. */
const AT = { magic: 0, format: 1, blocks: 2, ready: 3, replaced: 4, entries: 5, boot: 8 } as const;
/** Where the marks of tables begin, in 8-byte words: epoch, version, version that is synced. */
const MARKS_AT = 512;
const MARK_WORDS = 3;

/** One bit in each pair of words of a block. */
const SALTS = [
  0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31,
].map((salt) => salt | 0);

export interface FilterPorts {
  /** Maps a file into memory; Atomics on it work over all processes. */
  map(fd: number, bytes: number): ArrayBufferLike;
  /** Names the life of the machine. Default: that of the kernel. */
  boot?(): string;
}

export class SuppressionFilter {
  readonly #path: string;
  readonly #ports: FilterPorts;
  #words: Int32Array | null = null;
  #marks: Float64Array | null = null;
  #blocks = 0;
  /** When opening the file failed, it is tried again only after so many look-ups. */
  #untried = 0;

  constructor(path: string, ports: FilterPorts) {
    this.#path = path;
    this.#ports = ports;
  }

  /** Whether there is a file in which all entries are. */
  get ready(): boolean {
    return this.#open()?.[AT.ready] === 1;
  }

  /** About how many entries it has; 0 where there is none. */
  get entries(): number {
    return this.#open()?.[AT.entries] ?? 0;
  }

  /** Bits for each entry as it is now; Infinity when it is empty. */
  get bitsPerEntry(): number {
    const words = this.#open();
    return words === null ? 0 : (this.#blocks * BLOCK_BYTES * 8) / Math.max(0, words[AT.entries] as number);
  }

  /** Bits for each of so many entries. */
  bitsFor(entries: number): number {
    return this.#open() === null ? 0 : (this.#blocks * BLOCK_BYTES * 8) / Math.max(1, entries);
  }

  get bytes(): number {
    return this.#open() === null ? 0 : HEADER_BYTES + this.#blocks * BLOCK_BYTES;
  }

  /** false: this hash is surely of no entry. true also as long as that is not known. */
  mayHold(hash: number): boolean {
    const words = this.#open();
    if (words === null || words[AT.ready] !== 1) return true;
    if (words[AT.entries] === 0) return false;
    const high = Math.floor(hash / 0x20_0000);
    let at = FIRST_BLOCK + Math.floor((high * this.#blocks) / 0x1_0000_0000) * BLOCK_WORDS;
    const mix = mixOf(hash, high);
    for (let i = 0; i < SALTS.length; i++, at += 2) {
      const bit = Math.imul(mix, SALTS[i] as number) >>> 26;
      if (((words[at + (bit >>> 5)] as number) & (1 << (bit & 31))) === 0) return false;
    }
    return true;
  }

  /** Sets the bits of an entry. Without a file that can be had nothing is done: whoever makes it reads the table. */
  add(hash: number): void {
    const words = this.#open();
    if (words !== null && set(words, this.#blocks, hash)) Atomics.add(words, AT.entries, 1);
  }

  /** Up to which version of a table it is complete; null: it does not follow this table, or another of that number. */
  versionOf(part: number, epoch: number): number | null {
    if (this.#open() === null) return null;
    const at = MARKS_AT + part * MARK_WORDS;
    const marks = this.#marks as Float64Array;
    return marks[at] === epoch ? (marks[at + 1] as number) : null;
  }

  /** All rows of the table up to this version are in it. */
  follow(part: number, { epoch, version }: SuppressionMark): void {
    if (this.#open() === null) return;
    const at = MARKS_AT + part * MARK_WORDS;
    const marks = this.#marks as Float64Array;
    if (marks[at] !== epoch) marks[at + 2] = 0;
    marks[at] = epoch;
    marks[at + 1] = version;
  }

  /**
   * To be called at a start, by the process that looks after it: after a crash of the machine the file may lack what was not
   * synced, and is complete only as far as it was.
   */
  recover(): void {
    const words = this.#open();
    if (words === null) return;
    const boot = bootWords(this.#ports);
    if (boot.every((word, i) => words[AT.boot + i] === word)) return;
    const marks = this.#marks as Float64Array;
    for (let part = 0; part < MAX_PARTS; part++) {
      const at = MARKS_AT + part * MARK_WORDS;
      marks[at + 1] = marks[at + 2] as number;
    }
    boot.forEach((word, i) => {
      words[AT.boot + i] = word;
    });
  }

  /** Writes it to the disk, then how far it was complete before. @throws the Error of the file system */
  sync(): void {
    if (this.#open() === null) return;
    const marks = this.#marks as Float64Array;
    const complete = Array.from({ length: MAX_PARTS }, (_, part) => marks[MARKS_AT + part * MARK_WORDS + 1]);
    const fd = openSync(this.#path, 'r+');
    try {
      fdatasyncSync(fd);
      complete.forEach((version, part) => {
        marks[MARKS_AT + part * MARK_WORDS + 2] = version as number;
      });
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  /**
   * Puts a new, empty file with room for so many entries in the place of the old one. Nothing is known until `complete`.
   * @throws the Error of the file system: the old one stays.
   */
  replace(entries: number, bitsPerEntry: number): void {
    const blocks = Math.max(64, Math.ceil((entries * bitsPerEntry) / (BLOCK_BYTES * 8)));
    const head = Buffer.alloc(HEADER_BYTES);
    const words = new Int32Array(head.buffer, head.byteOffset, HEADER_BYTES / 4);
    words[AT.magic] = MAGIC;
    words[AT.format] = FORMAT;
    words[AT.blocks] = blocks;
    bootWords(this.#ports).forEach((word, i) => {
      words[AT.boot + i] = word;
    });
    const old = this.#open();
    this.#write(head, blocks * BLOCK_BYTES);
    if (old !== null) Atomics.store(old, AT.replaced, 1);
    this.#words = this.#opened();
  }

  /** Written out in full: touching mapped memory over a hole in the file would crash on a full disk. */
  #write(head: Buffer, bytes: number): void {
    const made = `${this.#path}.${randomBytes(4).toString('hex')}`;
    const fd = openSync(made, 'wx', 0o600);
    try {
      writeSync(fd, head, 0, head.length, 0);
      const zeros = Buffer.alloc(Math.min(bytes, 1 << 20));
      for (let at = 0; at < bytes; )
        at += writeSync(fd, zeros, 0, Math.min(zeros.length, bytes - at), head.length + at);
      fsyncSync(fd);
      renameSync(made, this.#path);
      syncFolder(dirname(this.#path));
    } catch (error) {
      rmSync(made, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  /** Every entry of the tables is in it, unless somebody has replaced it again. */
  complete(): void {
    if (this.#words !== null) Atomics.store(this.#words, AT.ready, 1);
  }

  #open(): Int32Array | null {
    const words = this.#words;
    if (words !== null && words[AT.replaced] === 0) return words;
    if (words === null && this.#untried-- > 0) return null;
    this.#words = this.#opened();
    this.#untried = UNTRIED;
    return this.#words;
  }

  #opened(): Int32Array | null {
    let fd: number;
    try {
      fd = openSync(this.#path, 'r+');
    } catch {
      return null;
    }
    try {
      const { size } = fstatSync(fd);
      if (size < HEADER_BYTES + BLOCK_BYTES) return null;
      const memory = this.#ports.map(fd, size);
      const words = new Int32Array(memory);
      const blocks = words[AT.blocks] as number;
      const isOurs = words[AT.magic] === MAGIC && words[AT.format] === FORMAT;
      if (!isOurs || size !== HEADER_BYTES + blocks * BLOCK_BYTES || words[AT.replaced] !== 0) return null;
      this.#blocks = blocks;
      this.#marks = new Float64Array(memory, 0, HEADER_BYTES / 8);
      return words;
    } catch {
      return null;
    } finally {
      closeSync(fd);
    }
  }
}

const UNTRIED = 1000;

/** The bits of the hash below those that choose the block, spread over a word. */
function mixOf(hash: number, high: number): number {
  const low = hash - high * 0x20_0000;
  const word = Math.imul(low ^ (high << 11), 0x9e3779b1);
  return word ^ (word >>> 15);
}

/** @returns whether one of the bits was not set before. */
function set(words: Int32Array, blocks: number, hash: number): boolean {
  const high = Math.floor(hash / 0x20_0000);
  let at = FIRST_BLOCK + Math.floor((high * blocks) / 0x1_0000_0000) * BLOCK_WORDS;
  const mix = mixOf(hash, high);
  let isNew = false;
  for (let i = 0; i < SALTS.length; i++, at += 2) {
    const bit = Math.imul(mix, SALTS[i] as number) >>> 26;
    const mask = 1 << (bit & 31);
    if ((Atomics.or(words, at + (bit >>> 5), mask) & mask) === 0) isNew = true;
  }
  return isNew;
}

const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/** Where the kernel does not say, each start counts as one of the machine. */
function bootWords({ boot = () => readFileSync(BOOT_ID, 'utf8') }: FilterPorts): number[] {
  let name: Buffer;
  try {
    name = Buffer.from(
      boot()
        .replace(/[^0-9a-f]/gi, '')
        .padEnd(32, '0')
        .slice(0, 32),
      'hex',
    );
  } catch {
    name = randomBytes(16);
  }
  return [0, 4, 8, 12].map((at) => name.readInt32LE(at));
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
