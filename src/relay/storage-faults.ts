/** What the storage of contents cannot use now, by what it tells the operator. Part of the composition root. */
import type { StorageNote } from '../storage/notes.ts';

export class StorageFaults {
  readonly #faults = new Map<string, string>();

  take({ event, fields }: StorageNote): void {
    if (event === 'storage.root_aside') this.#faults.set(String(fields.root), String(fields.error));
    if (event === 'storage.root_returned') this.#faults.delete(String(fields.root));
    if (event === 'storage.unreachable') this.#faults.set('', String(fields.error));
    if (event === 'storage.reachable') this.#faults.delete('');
  }

  list(): string[] {
    return [...this.#faults.values()];
  }
}
