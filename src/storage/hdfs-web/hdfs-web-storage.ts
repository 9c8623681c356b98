/**
 * Content in HDFS over WebHDFS: a bundle per group commit; large contents are objects of their own, streamed both ways
 * so that memory stays bounded. Each content is checked by its own checksum when it is read.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { RelayError } from '../../base/errors.ts';
import type { ContentHandle } from '../../mail/message.ts';
import { type Arena, NO_CONTENT } from '../../native.ts';
import {
  type Bundle,
  blocksOf,
  bundlesOf,
  checked,
  fillRefs,
  isTrailerFor,
  type Piece,
  TRAILER_BYTES,
} from '../bundle.ts';
import { Deletions } from '../deletions.ts';
import { storageError } from '../errors.ts';
import type { SayNote } from '../notes.ts';
import { BUNDLE, DAY, dayOf, type ObjectNames, pathOf } from '../object-name.ts';
import type { ContentRef, ReferenceCheck, Storage, StorageItem } from '../storage.ts';
import { toRelayError } from './fault.ts';
import { WebHdfs, type WebHdfsOptions } from './web-hdfs.ts';

/** Small pieces are sent together, in blocks of this size. */
const SEND_BYTES = 65_536;
/** How far to read on behind a small content: the next content of a claim is likely to lie there. */
const READ_AHEAD_BYTES = 262_144;
const WRITES_AT_ONCE = 4;
const CLOSE_MS = 1000;
const FOLDER_PERMISSION = '700';
const FILE_PERMISSION = '600';

export interface HdfsWebStorageOptions extends WebHdfsOptions {
  /** Absolute path in HDFS. */
  basePath: string;
  replication: number;
  /** Most bytes of content in one bundle. */
  maxWriteBufferBytes: number;
  /** Longer content is loaded into a file. */
  spillThresholdBytes: number;
  /** Folder of those files; they lose their name once they are open. */
  spillDir: string;
  /** Objects younger than this are not swept: another writer of the same database may be about to refer to them. */
  sweepMinAgeMs: number;
  names: ObjectNames;
  say: SayNote;
}

export class HdfsWebStorage implements Storage {
  readonly #arena: Arena;
  readonly #options: HdfsWebStorageOptions;
  readonly #client: WebHdfs;
  readonly #deletions: Deletions;
  /** The day whose folder exists. */
  #madeDay = '';
  #ahead: { object: string; offset: number; bytes: Buffer } | null = null;

  constructor(arena: Arena, options: HdfsWebStorageOptions) {
    this.#arena = arena;
    this.#options = options;
    this.#client = new WebHdfs(options);
    this.#deletions = new Deletions(async (object) => {
      await this.#client.delete(this.#path(object));
    });
  }

  async put(items: StorageItem[]): Promise<ContentRef[]> {
    const refs: ContentRef[] = new Array(items.length);
    const objects: string[] = [];
    try {
      const bundles = bundlesOf(this.#arena, items, this.#options.maxWriteBufferBytes);
      const untilMs = performance.now() + this.#options.timeoutMs;
      await each(bundles, WRITES_AT_ONCE, async (bundle) => {
        if (objects.length >= WRITES_AT_ONCE && performance.now() > untilMs)
          throw new RelayError('storage_unavailable', 'hdfs_web: writing the commit took too long');
        const object = this.#options.names.next(bundle.queueId);
        objects.push(object);
        await this.#write(object, bundle);
        fillRefs(refs, bundle, object, items);
      });
    } catch (error) {
      this.#deletions.add(objects);
      throw toRelayError(withErrno(error, this.#options.spillDir), 'content cannot be stored', 'write');
    }
    return refs;
  }

  async #write(object: string, bundle: Bundle): Promise<void> {
    const { basePath, names, replication, maxWriteBufferBytes } = this.#options;
    const day = dayOf(bundle.queueId);
    if (day !== this.#madeDay)
      await this.#client.mkdirs(`${trimmed(basePath)}/${names.owner}/${day}`, FOLDER_PERMISSION);
    this.#madeDay = day;
    const { pieces, lengthBytes } = bundle;
    await this.#client.create(
      this.#path(object),
      { replication, permission: FILE_PERMISSION, lengthBytes },
      () => blocks(pieces, Math.min(SEND_BYTES, maxWriteBufferBytes)),
    );
  }

  insert(): void {}

  erase(): void {}

  async discard(refs: ContentRef[]): Promise<void> {
    await this.remove([...new Set(refs.map(({ object }) => object))]);
  }

  /** Deletes without holding up the commit: the next commit must not wait for a round trip per object. */
  async remove(objects: string[]): Promise<void> {
    this.#deletions.add(objects);
  }

  async load(ref: ContentRef): Promise<ContentHandle> {
    try {
      if (ref.lengthBytes > this.#options.spillThresholdBytes) return await this.#loadFile(ref);
      return this.#arena.store(this.#fromAhead(ref) ?? (await this.#fetch(ref)));
    } catch (error) {
      throw this.#readError(error, ref);
    }
  }

  #fromAhead(ref: ContentRef): Buffer | null {
    const ahead = this.#ahead;
    if (ahead === null || ahead.object !== ref.object || ref.offset < ahead.offset) return null;
    const at = ref.offset - ahead.offset;
    return checked(ahead.bytes.subarray(at, at + ref.lengthBytes + TRAILER_BYTES), ref.lengthBytes);
  }

  async #fetch(ref: ContentRef): Promise<Buffer> {
    const { object, offset, lengthBytes } = ref;
    const count = Math.max(READ_AHEAD_BYTES, lengthBytes + TRAILER_BYTES);
    const bytes = await this.#bytes(object, offset, count);
    const content = checked(bytes.subarray(0, lengthBytes + TRAILER_BYTES), lengthBytes);
    if (content === null) throw this.#damaged(object);
    this.#ahead = { object, offset, bytes };
    return content;
  }

  async #bytes(object: string, offset: number, count: number): Promise<Buffer> {
    let parts: Uint8Array[] = [];
    await this.#client.open(
      this.#path(object),
      offset,
      count,
      (part) => parts.push(part),
      () => {
        parts = [];
      },
    );
    return Buffer.concat(parts);
  }

  /** Loads large content part by part into a file. */
  async #loadFile({ object, offset, lengthBytes }: ContentRef): Promise<ContentHandle> {
    const path = join(this.#options.spillDir, `load-${randomBytes(6).toString('hex')}`);
    const fd = openSync(path, 'wx+', 0o600);
    let kept = false;
    try {
      unlinkSync(path);
      let crc = 0;
      let done = 0;
      let trailer = Buffer.alloc(0);
      const take = (part: Uint8Array): void => {
        const content = part.subarray(0, lengthBytes - done);
        crc = crc32(content, crc);
        this.#spill(fd, content, done);
        done += content.length;
        if (part.length > content.length) trailer = Buffer.concat([trailer, part.subarray(content.length)]);
      };
      const begin = (): void => {
        crc = 0;
        done = 0;
        trailer = Buffer.alloc(0);
      };
      await this.#client.open(this.#path(object), offset, lengthBytes + TRAILER_BYTES, take, begin);
      if (done !== lengthBytes || !isTrailerFor(trailer, lengthBytes, crc)) throw this.#damaged(object);
      const content = this.#arena.storeFile(fd, 0, lengthBytes);
      kept = content !== NO_CONTENT;
      return content;
    } finally {
      if (!kept) closeSync(fd);
    }
  }

  #spill(fd: number, bytes: Uint8Array, at: number): void {
    try {
      for (let done = 0; done < bytes.length; )
        done += writeSync(fd, bytes, done, bytes.length - done, at + done);
    } catch (error) {
      throw storageError(error, this.#options.spillDir);
    }
  }

  #damaged(object: string): RelayError {
    this.#options.say({ event: 'storage.content_damaged', fields: { object } });
    return new RelayError(
      'content_missing',
      `hdfs_web: content in ${this.#path(object)} is not what was stored (its checksum or length is wrong)`,
    );
  }

  async read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array> {
    const count = Math.max(0, Math.min(maxBytes, ref.lengthBytes - offset));
    if (count === 0) return new Uint8Array(0);
    try {
      return await this.#bytes(ref.object, ref.offset + offset, count);
    } catch (error) {
      throw this.#readError(error, ref);
    }
  }

  #readError(error: unknown, { object }: ContentRef): RelayError {
    const known = withErrno(error, this.#options.spillDir);
    const mapped = toRelayError(known, `content in ${this.#path(object)}`, 'read');
    if (mapped.code !== 'content_missing' || error instanceof RelayError) return mapped;
    return new RelayError('content_missing', `${mapped.message} (it is not there)`, error);
  }

  /** Sweeps from the oldest day on, for at most the time of one call; the rest is swept another time. */
  async sweep(isReferenced: ReferenceCheck): Promise<number> {
    const { basePath, names, timeoutMs, sweepMinAgeMs } = this.#options;
    const base = `${trimmed(basePath)}/${names.owner}`;
    const untilMs = performance.now() + timeoutMs;
    let swept = 0;
    try {
      for await (const { name: day } of this.#client.list(base)) {
        if (!DAY.test(day)) continue;
        let left = 0;
        for await (const { name, modifiedMs } of this.#client.list(`${base}/${day}`)) {
          if (performance.now() > untilMs) return swept;
          const object = names.of(day, name);
          const orphan = !name.endsWith(BUNDLE) || !(await isReferenced(object));
          if (orphan && Date.now() - modifiedMs >= sweepMinAgeMs) {
            this.#deletions.add([object]);
            swept++;
          } else left++;
        }
        if (left === 0 && day < new Date().toISOString().slice(0, 10))
          this.#deletions.add([names.of(day, '')]);
      }
    } catch {
      // HDFS cannot be reached: the next sweep tries again.
    }
    return swept;
  }

  async close(): Promise<void> {
    await this.#deletions.close(CLOSE_MS);
    this.#client.close();
  }

  #path(object: string): string {
    return `${trimmed(this.#options.basePath)}/${pathOf(object)}`.replace(/\/$/, '');
  }
}

function trimmed(path: string): string {
  return path.replace(/\/+$/, '');
}

/** Makes RelayErrors of errors of our own files; returns others as they are. */
function withErrno(error: unknown, folder: string): unknown {
  return typeof (error as NodeJS.ErrnoException).errno === 'number' ? storageError(error, folder) : error;
}

/**
 * The bytes of an object in blocks: joins small pieces, leaves chunks of the arena as they are, cuts files into parts.
 */
function* blocks(pieces: Piece[], blockBytes: number): Generator<Uint8Array> {
  let small: Buffer[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    const isSmall = Buffer.isBuffer(piece) && bytes + piece.length <= blockBytes;
    if (!isSmall && bytes > 0) {
      yield Buffer.concat(small);
      small = [];
      bytes = 0;
    }
    if (!Buffer.isBuffer(piece)) for (const block of blocksOf(piece)) yield Buffer.from(block);
    else if (piece.length >= blockBytes) yield piece;
    else {
      small.push(piece);
      bytes += piece.length;
    }
  }
  if (bytes > 0) yield Buffer.concat(small);
}

/** Does `work` for each thing, several at a time; when one fails, waits for those under way. */
async function each<T>(things: T[], atOnce: number, work: (thing: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < things.length && !failed) {
      try {
        await work(things[next++] as T);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(atOnce, things.length) }, lane));
  const broken = lanes.find((one) => one.status === 'rejected');
  if (broken !== undefined) throw broken.reason;
}
