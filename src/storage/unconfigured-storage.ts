/** Stands for a provider that older content names, but the config no longer has: mail with such content waits. */
import { RelayError } from '../base/errors.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { ContentRef, Storage } from './storage.ts';

export class UnconfiguredStorage implements Storage {
  readonly #section: string;

  /** @param section the section of the config that is missing. */
  constructor(section: string) {
    this.#section = section;
  }

  #missing(object: string): RelayError {
    return new RelayError(
      'storage_unavailable',
      `content object ${object} lies in a provider that is not configured: put ${this.#section} back into the config`,
    );
  }

  async put(): Promise<ContentRef[]> {
    throw this.#missing('(new)');
  }

  insert(): void {}

  erase(): void {}

  async discard(): Promise<void> {}

  async remove(): Promise<void> {}

  async load(ref: ContentRef): Promise<ContentHandle> {
    throw this.#missing(ref.object);
  }

  async read(ref: ContentRef): Promise<Uint8Array> {
    throw this.#missing(ref.object);
  }

  async sweep(): Promise<number> {
    return 0;
  }

  async close(): Promise<void> {}
}
