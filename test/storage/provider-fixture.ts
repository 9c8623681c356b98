/** A storage provider alone: contents go in and come out over an arena in plain memory. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StorageNote } from '../../src/storage/notes.ts';
import type { ContentRef, Storage } from '../../src/storage/storage.ts';
import { FakeArena } from '../persistence/fake-arena.ts';

export const SPILL_BYTES = 262_144;

export abstract class ProviderFixture {
  readonly dir: string;
  readonly arena = new FakeArena();
  readonly notes: StorageNote[] = [];
  #count = 0;

  abstract readonly storage: Storage;

  constructor(name: string) {
    this.dir = mkdtempSync(join(tmpdir(), `${name}-`));
  }

  /** Stores one bundle of these contents. */
  async put(...contents: (string | Buffer)[]): Promise<ContentRef[]> {
    const items = contents.map((text) => {
      const bytes = Buffer.from(text);
      const content =
        bytes.length > SPILL_BYTES ? this.arena.spill(bytes, this.dir) : this.arena.store(bytes);
      const queueId = `06dk0000000${(this.#count++).toString(16).padStart(4, '0')}`;
      return { queueId, content, lengthBytes: bytes.length };
    });
    try {
      return await this.storage.put(items);
    } finally {
      for (const { content } of items) this.arena.release(content);
    }
  }

  async load(ref: ContentRef | undefined): Promise<string> {
    const content = await this.storage.load(ref as ContentRef);
    const text = this.arena.bytes(content).toString('latin1');
    this.arena.release(content);
    return text;
  }
}
