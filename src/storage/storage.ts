import type { ContentHandle } from '../mail/message.ts';

/** Where content lies, as its row in `mails` says. */
export interface ContentRef {
  /** Name of the object; '' when the content lies in rows of the database itself. */
  object: string;
  /** First byte within the object, or the first of those rows. */
  offset: number;
  lengthBytes: number;
  /** How many rows of the database hold it; 0 for content in an object. */
  parts: number;
}

/** Content to store, with the message it belongs to. */
export interface StorageItem {
  queueId: string;
  content: ContentHandle;
  lengthBytes: number;
}

/** Asks the database whether a mail still refers to an object. */
export type ReferenceCheck = (object: string) => boolean | Promise<boolean>;

/**
 * A storage provider. One group commit calls put, then inside its transaction insert and erase, then after it
 * remove (or, when it failed, discard). Content is never changed once stored.
 * Throws RelayError 'storage_full' | 'storage_unavailable' (temporary) or 'storage_failed'.
 */
export interface Storage {
  /**
   * Stores the contents of one group commit, before its transaction: as one bundle where the provider has objects. When
   * it resolves, they are on stable storage, except what `insert` still has to write.
   */
  put(items: StorageItem[]): Promise<ContentRef[]>;
  /** Within the transaction: writes content that lies in the database itself. */
  insert(item: StorageItem, ref: ContentRef): void;
  /** Within the transaction: deletes content that lies in the database itself, or sees to it that `eraseLeft` does. */
  erase(ref: ContentRef): void;
  /** Between transactions: deletes rows of such content that were left. @returns how many; fewer than `most`: ask again later. */
  eraseLeft?(most: number): number;
  /** The transaction did not happen: undoes `put`. Never throws; objects that cannot be deleted are swept later. */
  discard(refs: ContentRef[]): Promise<void>;
  /**
   * After the transaction: deletes objects to which no mail refers. Never throws; objects that stay are swept later.
   */
  remove(objects: string[]): Promise<void>;
  /**
   * Loads content into the arena (or opens its file); NO_CONTENT when the arena is short. Throws 'content_missing'
   * when it is not there.
   */
  load(ref: ContentRef): Promise<ContentHandle>;
  /** Reads some bytes, for `queue cat`; none past the end. */
  read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array>;
  /**
   * Deletes objects to which no mail refers (crash between put and commit), and returns how many. Objects that cannot
   * be reached now are swept another time.
   */
  sweep(isReferenced: ReferenceCheck): Promise<number>;
  close(): Promise<void>;
}
