/**
 * Content in local files, in a folder per day: the contents of one group commit in one bundle, large contents as
 * files of their own. A bundle is deleted when no mail refers to it any more.
 */
import { readdirSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { makeDurableFolder, syncFolder, unlinkIfThere } from './content-file.ts';
import { ContentFolder, type ContentFolderOptions, type PendingBundle } from './content-folder.ts';
import { storageError } from './errors.ts';
import { BUNDLE, DAY, dayOf } from './object-name.ts';
import type { ContentRef, ReferenceCheck, Storage, StorageItem } from './storage.ts';

export interface LocalStorageOptions extends ContentFolderOptions {
  /** Objects younger than this are not swept: another writer of the same database may be about to refer to them. */
  sweepMinAgeMs: number;
}

const SINGLE = '.content';

export class LocalStorage implements Storage {
  readonly #files: ContentFolder;
  readonly #options: LocalStorageOptions;

  constructor(arena: Arena, options: LocalStorageOptions) {
    this.#options = options;
    this.#files = new ContentFolder(arena, options);
  }

  async put(items: StorageItem[]): Promise<ContentRef[]> {
    this.#files.look();
    const refs: ContentRef[] = [];
    const folders = new Set<string>();
    try {
      let bundle: PendingBundle | null = null;
      for (const item of items) {
        const { queueId, lengthBytes } = item;
        if (this.#files.isSpilled(item)) {
          const object = this.#object(queueId, SINGLE, folders);
          refs.push({ object, offset: 0, lengthBytes, parts: 0 });
          this.#files.keep(object, item);
          continue;
        }
        bundle ??= this.#files.bundle(this.#object(queueId, BUNDLE, folders));
        refs.push(this.#files.add(bundle, item));
      }
      if (bundle !== null) this.#files.write(bundle);
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
    // Only whole bundles are discarded. One that is partly used (a DSN was rejected) is deleted with its last mail.
    this.#files.remove(new Set(refs.map(({ object }) => object)));
  }

  async remove(objects: string[]): Promise<void> {
    this.#files.remove(objects);
  }

  async load(ref: ContentRef): Promise<ContentHandle> {
    return this.#files.load(ref);
  }

  async read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array> {
    return this.#files.read(ref, offset, maxBytes);
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
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // the folder is made when the first content comes
  }
}

function removeFolder(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // the folder is not empty any more: content came in meanwhile
  }
}
