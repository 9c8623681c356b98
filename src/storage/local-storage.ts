/**
 * Content in local files, in a folder per day: the contents of one group commit in one bundle, large contents as
 * files of their own. A bundle is deleted when no mail refers to it any more.
 */
import { readdirSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
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
import { BUNDLE, DAY, dayOf } from './object-name.ts';
import type { ContentRef, ReferenceCheck, Storage, StorageItem } from './storage.ts';

export interface LocalStorageOptions {
  folder: string;
  /** Longer content of a file stays in the file when it is loaded. */
  spillThresholdBytes: number;
  /** Objects younger than this are not swept: another writer of the same database may be about to refer to them. */
  sweepMinAgeMs: number;
}

const SINGLE = '.content';

export class LocalStorage implements Storage {
  readonly #arena: Arena;
  readonly #bundles = new BundleWriter();
  readonly #options: LocalStorageOptions;

  constructor(arena: Arena, options: LocalStorageOptions) {
    this.#arena = arena;
    this.#options = options;
  }

  async put(items: StorageItem[]): Promise<ContentRef[]> {
    const refs: ContentRef[] = [];
    const folders = new Set<string>();
    try {
      let bundle: { object: string; views: Buffer[]; lengthBytes: number } | null = null;
      for (const { queueId, content, lengthBytes } of items) {
        if (this.#arena.file(content) !== null) {
          const object = this.#object(queueId, SINGLE, folders);
          refs.push({ object, offset: 0, lengthBytes, parts: 0 });
          keepSpilled(this.#arena, content, this.#path(object));
          continue;
        }
        bundle ??= { object: this.#object(queueId, BUNDLE, folders), views: [], lengthBytes: 0 };
        refs.push({ object: bundle.object, offset: bundle.lengthBytes, lengthBytes, parts: 0 });
        bundle.views.push(...this.#arena.parts(content));
        bundle.lengthBytes += lengthBytes;
      }
      if (bundle !== null) this.#bundles.write(this.#path(bundle.object), bundle.views);
      for (const folder of folders) syncFolder(folder);
    } catch (error) {
      await this.discard(refs);
      throw storageError(error, this.#options.folder);
    }
    return refs;
  }

  #object(queueId: string, suffix: string, folders: Set<string>): string {
    const day = dayOf(queueId);
    const folder = join(this.#options.folder, day);
    if (!folders.has(folder)) {
      makeDurableFolder(this.#options.folder);
      makeDurableFolder(folder);
      folders.add(folder);
    }
    return `${day}/${queueId}${suffix}`;
  }

  insert(): void {}

  erase(): void {}

  async discard(refs: ContentRef[]): Promise<void> {
    // A bundle is discarded only whole: contents of one that was half used (a rejected DSN) go with its last mail.
    for (const object of new Set(refs.map((ref) => ref.object))) unlinkIfThere(this.#path(object));
  }

  async remove(objects: string[]): Promise<void> {
    for (const object of objects) unlinkIfThere(this.#path(object));
  }

  async load(ref: ContentRef): Promise<ContentHandle> {
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

  async read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array> {
    try {
      return readFilePart(this.#path(ref.object), ref.offset, ref.lengthBytes, offset, maxBytes);
    } catch (error) {
      throw storageError(error, this.#options.folder);
    }
  }

  async sweep(isReferenced: ReferenceCheck): Promise<number> {
    let swept = 0;
    for (const day of names(this.#options.folder)) {
      if (!DAY.test(day)) continue;
      const folder = join(this.#options.folder, day);
      let left = 0;
      for (const name of names(folder)) {
        const path = join(folder, name);
        const ours = name.endsWith(BUNDLE) || name.endsWith(SINGLE);
        const orphan = ours && !(await isReferenced(`${day}/${name}`)) && this.#isOldEnough(path);
        if (orphan && unlinkIfThere(path)) swept++;
        else left++;
      }
      if (left === 0) removeFolder(folder);
    }
    return swept;
  }

  #isOldEnough(path: string): boolean {
    const { sweepMinAgeMs } = this.#options;
    if (sweepMinAgeMs === 0) return true;
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat !== undefined && Date.now() - stat.mtimeMs >= sweepMinAgeMs;
  }

  async close(): Promise<void> {}

  #path(object: string): string {
    return join(this.#options.folder, object);
  }
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // made when the first content comes
  }
}

function removeFolder(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // not empty any more: content came in meanwhile
  }
}
