/**
 * The storage of a relay whose `storage.provider` may have been changed: new content goes to the provider in use,
 * older content is found where its row says it lies.
 */
import type { ContentHandle } from '../mail/message.ts';
import type { ContentRef, ReferenceCheck, Storage, StorageItem } from './storage.ts';

export class StorageByRef implements Storage {
  readonly #current: Storage;
  readonly #all: Storage[];
  readonly #ownerOf: (object: string) => Storage;

  /**
   * @param current takes new content.
   * @param others providers that may hold older content.
   * @param ownerOf returns the provider that an object's name belongs to.
   */
  constructor(current: Storage, others: Storage[], ownerOf: (object: string) => Storage) {
    this.#current = current;
    this.#all = [current, ...others];
    this.#ownerOf = ownerOf;
  }

  put(items: StorageItem[]): Promise<ContentRef[]> {
    return this.#current.put(items);
  }

  insert(item: StorageItem, ref: ContentRef): void {
    this.#current.insert(item, ref);
  }

  discard(refs: ContentRef[]): Promise<void> {
    return this.#current.discard(refs);
  }

  erase(ref: ContentRef): void {
    this.#ownerOf(ref.object).erase(ref);
  }

  eraseLeft(most: number): number {
    return this.#ownerOf('').eraseLeft?.(most) ?? 0;
  }

  async remove(objects: string[]): Promise<void> {
    const byOwner = Map.groupBy(objects, this.#ownerOf);
    await Promise.all([...byOwner].map(([owner, own]) => owner.remove(own)));
  }

  load(ref: ContentRef): Promise<ContentHandle> {
    return this.#ownerOf(ref.object).load(ref);
  }

  read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array> {
    return this.#ownerOf(ref.object).read(ref, offset, maxBytes);
  }

  async sweep(isReferenced: ReferenceCheck): Promise<number> {
    let swept = 0;
    for (const storage of this.#all) swept += await storage.sweep(isReferenced);
    return swept;
  }

  async close(): Promise<void> {
    for (const storage of this.#all) await storage.close();
  }
}
