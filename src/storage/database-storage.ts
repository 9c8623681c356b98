/**
 * Content in the queue database, in the same transaction as its rows: a commit is one fsync. Two kinds of content lie
 * in files beside it instead. What the reactor spilled is not copied: its file gets a lasting name in the content
 * folder. And when a group commit brings much content of some length, that goes into one bundle file: the database
 * would write it twice, page by page (log, then file), which costs more than the bundle's two extra fsyncs.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { RelayError } from '../base/errors.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { BundleWriter } from './bundle-writer.ts';
import {
  keepSpilled,
  loadFile,
  makeDurableFolder,
  readFilePart,
  syncFolder,
  unlinkIfThere,
} from './content-file.ts';
import { storageError } from './errors.ts';
import type { ContentRef, ReferenceCheck, Storage, StorageItem } from './storage.ts';

/** Measured: bundles win from about 256 KiB in one commit, if made of contents that fill pages of their own. */
const BUNDLE_FROM_BYTES = 262_144;
const BUNDLED_CONTENT_BYTES = 8192;
const BUNDLE = '.bundle';

export interface DatabaseStorageOptions {
  /** Folder of large contents. */
  folder: string;
  /** Longer content of a file stays in the file when it is loaded. */
  spillThresholdBytes: number;
}

export class DatabaseStorage implements Storage {
  readonly #arena: Arena;
  readonly #bundles = new BundleWriter();
  readonly #options: DatabaseStorageOptions;
  readonly #insert: StatementSync;
  readonly #erase: StatementSync;
  readonly #parts: StatementSync;
  #nextId: number;

  constructor(db: DatabaseSync, arena: Arena, options: DatabaseStorageOptions) {
    this.#arena = arena;
    this.#options = options;
    this.#insert = db.prepare('INSERT INTO content (id, bytes) VALUES (?, ?)');
    this.#erase = db.prepare('DELETE FROM content WHERE id BETWEEN ? AND ?');
    this.#parts = db.prepare('SELECT bytes FROM content WHERE id BETWEEN ? AND ? ORDER BY id');
    // This is the only writer, so it numbers the rows itself; new ones append at the right edge.
    this.#nextId =
      (db.prepare('SELECT coalesce(max(id), 0) + 1 AS id FROM content').get()?.id as number) ?? 1;
  }

  async put(items: StorageItem[]): Promise<ContentRef[]> {
    const refs: ContentRef[] = [];
    const bundling = this.#isWorthBundling(items);
    let bundle: { object: string; views: Buffer[]; lengthBytes: number } | null = null;
    try {
      for (const { queueId, content, lengthBytes } of items) {
        if (this.#arena.file(content) !== null) {
          makeDurableFolder(this.#options.folder);
          refs.push({ object: queueId, offset: 0, lengthBytes, parts: 0 });
          keepSpilled(this.#arena, content, this.#path(queueId));
        } else if (bundling && lengthBytes >= BUNDLED_CONTENT_BYTES) {
          bundle ??= { object: `${queueId}${BUNDLE}`, views: [], lengthBytes: 0 };
          refs.push({ object: bundle.object, offset: bundle.lengthBytes, lengthBytes, parts: 0 });
          bundle.views.push(...this.#arena.parts(content));
          bundle.lengthBytes += lengthBytes;
        } else {
          const parts = this.#arena.parts(content).length;
          refs.push({ object: '', offset: this.#nextId, lengthBytes, parts });
          this.#nextId += parts;
        }
      }
      if (bundle !== null) {
        makeDurableFolder(this.#options.folder);
        this.#bundles.write(this.#path(bundle.object), bundle.views);
      }
      if (refs.some(({ object }) => object !== '')) syncFolder(this.#options.folder);
    } catch (error) {
      await this.discard(refs);
      throw storageError(error, this.#options.folder);
    }
    return refs;
  }

  #isWorthBundling(items: StorageItem[]): boolean {
    let bytes = 0;
    for (const { content, lengthBytes } of items)
      if (lengthBytes >= BUNDLED_CONTENT_BYTES && this.#arena.file(content) === null) bytes += lengthBytes;
    return bytes >= BUNDLE_FROM_BYTES;
  }

  insert(item: StorageItem, ref: ContentRef): void {
    if (ref.object !== '') return;
    let id = ref.offset;
    for (const part of this.#arena.parts(item.content)) this.#insert.run(id++, part);
  }

  erase(ref: ContentRef): void {
    if (ref.parts > 0) this.#erase.run(ref.offset, ref.offset + ref.parts - 1);
  }

  async discard(refs: ContentRef[]): Promise<void> {
    for (const { object } of refs) if (object !== '') unlinkIfThere(this.#path(object));
  }

  async remove(objects: string[]): Promise<void> {
    for (const object of objects) unlinkIfThere(this.#path(object));
  }

  async load(ref: ContentRef): Promise<ContentHandle> {
    if (ref.object === '') return this.#arena.store(this.#rows(ref));
    try {
      return loadFile(
        this.#arena,
        this.#path(ref.object),
        ref.offset,
        ref.lengthBytes,
        this.#options.spillThresholdBytes,
      );
    } catch (error) {
      throw storageError(error, this.#options.folder);
    }
  }

  #rows(ref: ContentRef): Uint8Array {
    if (ref.parts === 0) return new Uint8Array(0);
    const rows = this.#parts.all(ref.offset, ref.offset + ref.parts - 1);
    const bytes =
      rows.length === 1
        ? (rows[0]?.bytes as Uint8Array)
        : Buffer.concat(rows.map((row) => row.bytes as Uint8Array));
    if (rows.length !== ref.parts || bytes.length !== ref.lengthBytes)
      throw new RelayError(
        'content-missing',
        `content rows ${ref.offset}…${ref.offset + ref.parts - 1} hold ${bytes.length} of ${ref.lengthBytes} bytes`,
      );
    return bytes;
  }

  async read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array> {
    if (ref.object === '') return this.#rows(ref).subarray(offset, offset + maxBytes);
    try {
      return readFilePart(this.#path(ref.object), ref.offset, ref.lengthBytes, offset, maxBytes);
    } catch (error) {
      throw storageError(error, this.#options.folder);
    }
  }

  async sweep(isReferenced: ReferenceCheck): Promise<number> {
    let names: string[];
    try {
      names = readdirSync(this.#options.folder);
    } catch {
      return 0; // made when the first large content comes
    }
    let swept = 0;
    for (const name of names) if (!(await isReferenced(name)) && unlinkIfThere(this.#path(name))) swept++;
    return swept;
  }

  async close(): Promise<void> {}

  #path(object: string): string {
    return join(this.#options.folder, object);
  }
}
