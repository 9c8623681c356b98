/**
 * Objects of the storage provider that may have lost their last mail. A bundle holds the contents of many messages,
 * and becomes a candidate with each of them that ends. So candidates are gathered and looked up together, apart from
 * commits.
 */
import type { Storage } from '../../storage/storage.ts';

const GATHER_MS = 500;

export class ObjectCollector {
  readonly #storage: Pick<Storage, 'remove'>;
  readonly #unreferenced: (objects: string[]) => Promise<string[]>;
  #candidates = new Set<string>();
  #timer: NodeJS.Timeout | null = null;

  /** @param unreferenced returns those objects to which no mail refers. */
  constructor(storage: Pick<Storage, 'remove'>, unreferenced: (objects: string[]) => Promise<string[]>) {
    this.#storage = storage;
    this.#unreferenced = unreferenced;
  }

  /** To be called after the transaction that deleted mails of these objects. */
  add(objects: Iterable<string>): void {
    for (const object of objects) this.#candidates.add(object);
    if (this.#candidates.size === 0 || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.flush().catch(() => {}); // objects that stay are swept later
    }, GATHER_MS).unref();
  }

  /** Removes those of them that are orphans now. */
  async flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#candidates.size === 0) return;
    const objects = [...this.#candidates];
    this.#candidates = new Set();
    const orphans = await this.#unreferenced(objects);
    if (orphans.length > 0) await this.#storage.remove(orphans);
  }
}
