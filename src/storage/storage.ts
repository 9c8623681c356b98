import type { ContentHandle } from '../mail/message.ts';

/** Where content lies: offset and length within an object of the provider. `parts` is how many database rows carry it (database provider). */
export interface ContentRef {
  object: string;
  offset: number;
  lengthBytes: number;
}

/**
 * A storage provider. `put` stores the contents of one group commit as one bundle and returns when they are on
 * stable storage (or, for the database provider, will be with the surrounding transaction).
 * Throws RelayError 'storage-full' | 'storage-unavailable' (temporary) or 'storage-failed'.
 */
export interface Storage {
  put(contents: ContentHandle[]): Promise<ContentRef[]>;
  /** Loads content into the arena (or opens its file); NO_CONTENT when the arena is short. Throws 'content-missing' when it is not there. */
  load(ref: ContentRef): Promise<ContentHandle>;
  /** Some bytes, for `queue cat`. */
  read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array>;
  /** The mails that these refs belonged to are settled. */
  remove(refs: ContentRef[]): Promise<void>;
  /** Deletes objects no mail refers to (crash between put and commit). `isReferenced` asks the database. */
  sweep(isReferenced: (object: string) => boolean): Promise<number>;
  close(): Promise<void>;
}
