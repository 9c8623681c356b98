/**
 * Content in the queue database, in the same transaction as its rows: a commit is one fsync. Two kinds of content lie
 * in files beside it instead. Content that the reactor spilled is not copied: its file gets a lasting name in the
 * content folder. And when a group commit brings much content of some length, that goes into one bundle file: the
 * database would write it twice, page by page (log, then file), which costs more than the bundle's two extra fsyncs.
 */
import { readdirSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { RelayError } from '../base/errors.ts';
import { execute } from '../base/sqlite-execute.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { makeDurableFolder, syncFolder, unlinkIfThere } from './content-file.ts';
import { ContentFolder, type ContentFolderOptions, type PendingBundle } from './content-folder.ts';
import { storageError } from './errors.ts';
import { LeftContent } from './left-content.ts';
import type { ContentRef, ReferenceCheck, Storage, StorageItem } from './storage.ts';

/**
 * A commit makes a bundle of contents of at least BUNDLED_CONTENT_BYTES if they have this many bytes together.
 * Measured: from about there on a bundle is cheaper, if its contents would fill pages of their own.
 */
const BUNDLE_FROM_BYTES = 262_144;
const BUNDLED_CONTENT_BYTES = 8192;
const BUNDLE = '.bundle';
/** Rows that are erased at once by one call are fewer; those of many messages are left for later. */
const LEFT_FROM_PARTS = 256;

export class DatabaseStorage implements Storage {
  readonly #arena: Arena;
  readonly #files: ContentFolder;
  readonly #options: ContentFolderOptions;
  readonly #insert: StatementSync;
  readonly #erase: StatementSync;
  readonly #parts: StatementSync;
  readonly #left: LeftContent;
  #nextId: number;

  /** @param options the folder of spilled contents and bundles. */
  constructor(db: DatabaseSync, arena: Arena, options: ContentFolderOptions) {
    this.#arena = arena;
    this.#options = options;
    this.#files = new ContentFolder(arena, options);
    this.#insert = db.prepare('INSERT INTO content (id, bytes) VALUES (?, ?)');
    this.#erase = db.prepare('DELETE FROM content WHERE id BETWEEN ? AND ?');
    this.#parts = db.prepare('SELECT bytes FROM content WHERE id BETWEEN ? AND ? ORDER BY id');
    this.#left = new LeftContent(db);
    // This is the only writer, so it numbers the rows itself; new rows are appended at the right edge of the tree.
    this.#nextId =
      (db.prepare('SELECT coalesce(max(id), 0) + 1 AS id FROM content').get()?.id as number) ?? 1;
  }

  async put(items: StorageItem[]): Promise<ContentRef[]> {
    const refs: ContentRef[] = [];
    const bundling = this.#isWorthBundling(items);
    let bundle: PendingBundle | null = null;
    try {
      for (const item of items) {
        const { queueId, content, lengthBytes } = item;
        if (this.#files.isSpilled(item)) {
          makeDurableFolder(this.#options.folder);
          refs.push({ object: queueId, offset: 0, lengthBytes, parts: 0 });
          this.#files.keep(queueId, item);
        } else if (bundling && lengthBytes >= BUNDLED_CONTENT_BYTES) {
          bundle ??= this.#files.bundle(`${queueId}${BUNDLE}`);
          refs.push(this.#files.add(bundle, item));
        } else {
          const parts = this.#arena.parts(content).length;
          refs.push({ object: '', offset: this.#nextId, lengthBytes, parts });
          this.#nextId += parts;
        }
      }
      if (bundle !== null) {
        makeDurableFolder(this.#options.folder);
        this.#files.write(bundle);
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
    for (const item of items)
      if (item.lengthBytes >= BUNDLED_CONTENT_BYTES && !this.#files.isSpilled(item))
        bytes += item.lengthBytes;
    return bytes >= BUNDLE_FROM_BYTES;
  }

  insert(item: StorageItem, ref: ContentRef): void {
    if (ref.object !== '') return;
    let id = ref.offset;
    for (const part of this.#arena.parts(item.content)) execute(this.#insert, id++, part);
  }

  erase(ref: ContentRef): void {
    if (ref.parts === 0) return;
    const last = ref.offset + ref.parts - 1;
    if (ref.parts < LEFT_FROM_PARTS || !this.#left.add(ref.offset, last))
      execute(this.#erase, ref.offset, last);
  }

  eraseLeft(most: number): number {
    return this.#left.erase(most);
  }

  async discard(refs: ContentRef[]): Promise<void> {
    this.#files.remove(refs.flatMap(({ object }) => (object === '' ? [] : [object])));
  }

  async remove(objects: string[]): Promise<void> {
    this.#files.remove(objects);
  }

  async load(ref: ContentRef): Promise<ContentHandle> {
    if (ref.object === '') return this.#arena.store(this.#rows(ref));
    return this.#files.load(ref);
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
        'content_missing',
        `content rows ${ref.offset}…${ref.offset + ref.parts - 1} hold ${bytes.length} of ${ref.lengthBytes} bytes`,
      );
    return bytes;
  }

  async read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array> {
    if (ref.object === '') return this.#rows(ref).subarray(offset, offset + maxBytes);
    return this.#files.read(ref, offset, maxBytes);
  }

  async sweep(isReferenced: ReferenceCheck): Promise<number> {
    let names: string[];
    try {
      names = readdirSync(this.#options.folder);
    } catch {
      return 0; // the folder is made when the first large content comes
    }
    let swept = 0;
    for (const name of names)
      if (!(await isReferenced(name)) && unlinkIfThere(this.#files.path(name))) swept++;
    return swept;
  }

  async close(): Promise<void> {}
}
