/**
 * Content in files below one folder, for the providers of a single machine. Contents lie one after another in bundles;
 * content that the reactor spilled has a file of its own. All calls block; they run on the persistence thread.
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
  /** Longer content stays in its file when it is loaded. */
  spillThresholdBytes: number;
  say: SayNote;
}

/** How often content that could not be read is tried again. */
const LOOK_MS = 1000;

/** Contents that will be one file. */
export interface PendingBundle {
  object: string;
  views: Buffer[];
  lengthBytes: number;
}

export class ContentFolder {
  readonly #arena: Arena;
  readonly #options: ContentFolderOptions;
  readonly #bundles = new BundleWriter();
  /** A file that could not be read: its disk seems to be away. null when there is none. */
  #lost: string | null = null;
  #lookMs = 0;

  constructor(arena: Arena, options: ContentFolderOptions) {
    this.#arena = arena;
    this.#options = options;
  }

  /** Whether the reactor has spilled this content to a file. */
  isSpilled({ content }: StorageItem): boolean {
    return this.#arena.file(content) !== null;
  }

  /** Gives spilled content its lasting name. The content is durable, but the name is not yet. */
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

  /** Writes the bundle's file. It is durable, but its name is not yet. */
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
      if (mapped.code === 'content_missing' || mapped.code === 'storage_unavailable')
        this.#lose(object, mapped);
      throw mapped;
    }
  }

  #lose(object: string, { message }: Error): void {
    if (this.#lost === null) this.#options.say({ event: 'storage.unreachable', fields: { error: message } });
    this.#lost = object;
    this.#lookMs = performance.now() + LOOK_MS;
  }

  /** Tells when content that could not be read is there again: mail without content need not wait any longer. */
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
      event: 'storage.reachable',
      fields: { path: this.#options.folder },
    });
  }

  read(ref: ContentRef, offset: number, maxBytes: number): Uint8Array {
    try {
      return readFilePart(this.path(ref.object), ref.offset, ref.lengthBytes, offset, maxBytes);
    } catch (error) {
      throw storageError(error, this.#options.folder);
    }
  }

  /** Deletes objects. Those that cannot be deleted are left to the sweep. */
  remove(objects: Iterable<string>): void {
    for (const object of objects) unlinkIfThere(this.path(object));
  }

  path(object: string): string {
    return join(this.#options.folder, object);
  }
}
