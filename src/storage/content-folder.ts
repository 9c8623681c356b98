/**
 * Content in files below one folder, for the providers of a single machine: contents one after another in bundles,
 * what the reactor spilled as files of its own. All calls block; they run on the persistence thread.
 */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { BundleWriter } from './bundle-writer.ts';
import { keepSpilled, loadFile, readFilePart, unlinkIfThere } from './content-file.ts';
import { storageError } from './errors.ts';
import type { SayNote } from './notes.ts';
import type { ContentRef, StorageItem } from './storage.ts';

export interface ContentFolderOptions {
  folder: string;
  /** Longer content of a file stays in the file when it is loaded. */
  spillThresholdBytes: number;
  say: SayNote;
}

/** How often it is tried whether content that could not be read can be read again. */
const LOOK_MS = 1000;

/** Contents that are to be one file. */
export interface PendingBundle {
  object: string;
  views: Buffer[];
  lengthBytes: number;
}

export class ContentFolder {
  readonly #arena: Arena;
  readonly #options: ContentFolderOptions;
  readonly #bundles = new BundleWriter();
  /** Content that could not be read when it was asked for last: a disk that is away, as far as one can see. */
  #lost: string | null = null;
  #lookMs = 0;

  constructor(arena: Arena, options: ContentFolderOptions) {
    this.#arena = arena;
    this.#options = options;
  }

  /** The reactor wrote this content to a file. */
  isSpilled({ content }: StorageItem): boolean {
    return this.#arena.file(content) !== null;
  }

  /** Gives spilled content its lasting name, durable but for that. */
  keep(object: string, { content }: StorageItem): void {
    keepSpilled(this.#arena, content, this.path(object));
  }

  bundle(object: string): PendingBundle {
    return { object, views: [], lengthBytes: 0 };
  }

  /** @returns where the content will lie. */
  add(bundle: PendingBundle, { content, lengthBytes }: StorageItem): ContentRef {
    const ref = { object: bundle.object, offset: bundle.lengthBytes, lengthBytes, parts: 0 };
    bundle.views.push(...this.#arena.parts(content));
    bundle.lengthBytes += lengthBytes;
    return ref;
  }

  /** Durable but for its name. */
  write({ object, views }: PendingBundle): void {
    this.#bundles.write(this.path(object), views);
  }

  load({ object, offset, lengthBytes }: ContentRef): ContentHandle {
    const { folder, spillThresholdBytes } = this.#options;
    this.look();
    try {
      return loadFile(this.#arena, this.path(object), offset, lengthBytes, spillThresholdBytes);
    } catch (error) {
      const mapped = storageError(error, folder);
      if (mapped.code === 'content-missing' || mapped.code === 'storage-unavailable')
        this.#lose(object, mapped);
      throw mapped;
    }
  }

  #lose(object: string, { message }: Error): void {
    if (this.#lost === null)
      this.#options.say({ level: 'warn', event: 'storage.unreachable', fields: { error: message } });
    this.#lost = object;
    this.#lookMs = performance.now() + LOOK_MS;
  }

  /** Says so when what could not be read is there again: mail that found no content need not wait any longer. */
  look(): void {
    if (this.#lost === null || performance.now() < this.#lookMs) return;
    this.#lookMs = performance.now() + LOOK_MS;
    try {
      accessSync(this.path(this.#lost), constants.R_OK);
    } catch {
      return; // still away
    }
    this.#lost = null;
    this.#options.say({
      level: 'info',
      event: 'storage.reachable',
      fields: { folder: this.#options.folder },
    });
  }

  read(ref: ContentRef, offset: number, maxBytes: number): Uint8Array {
    try {
      return readFilePart(this.path(ref.object), ref.offset, ref.lengthBytes, offset, maxBytes);
    } catch (error) {
      throw storageError(error, this.#options.folder);
    }
  }

  /** What cannot be deleted stays for the sweep. */
  remove(objects: Iterable<string>): void {
    for (const object of objects) unlinkIfThere(this.path(object));
  }

  path(object: string): string {
    return join(this.#options.folder, object);
  }
}
