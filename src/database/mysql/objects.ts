/**
 * Objects of the storage provider that may have lost their last mail. A bundle holds the contents of many messages
 * and is named with each that ends, so candidates are gathered and asked about together, away from the commits.
 */
import type { Storage } from '../../storage/storage.ts';

const GATHER_MS = 500;

export class ObjectCollector {
  readonly #storage: Pick<Storage, 'remove'>;
  readonly #unreferenced: (objects: string[]) => Promise<string[]>;
  #candidates = new Set<string>();
  #timer: NodeJS.Timeout | null = null;

  /** @param unreferenced which of these no mail refers to. */
  constructor(storage: Pick<Storage, 'remove'>, unreferenced: (objects: string[]) => Promise<string[]>) {
    this.#storage = storage;
    this.#unreferenced = unreferenced;
  }

  /** After the transaction that deleted mails of these objects. */
  add(objects: Iterable<string>): void {
    for (const object of objects) this.#candidates.add(object);
    if (this.#candidates.size === 0 || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.flush().catch(() => {}); // what stays is swept later
    }, GATHER_MS).unref();
  }

  /** Removes those that are orphans now. */
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
