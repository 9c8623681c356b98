/** The distributed provider alone, over roots in a temporary folder and an arena in plain memory. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { FieldsOf } from '../../src/base/log.ts';
import {
  DistributedStorage,
  type DistributedStorageOptions,
} from '../../src/storage/distributed/distributed-storage.ts';
import { rank } from '../../src/storage/distributed/placement.ts';
import type { StorageNote } from '../../src/storage/notes.ts';
import { ObjectNames, pathOf, SCHEME } from '../../src/storage/object-name.ts';
import type { ContentRef } from '../../src/storage/storage.ts';
import { Tmpfs } from '../support/tmpfs.ts';
import { ProviderFixture, SPILL_BYTES } from './provider-fixture.ts';
import { filesBelow, rootsIn } from './providers.ts';

export class DistributedFixture extends ProviderFixture {
  readonly roots: string[];
  readonly storage: DistributedStorage;
  readonly #disks: Tmpfs[] = [];

  constructor(options: Partial<DistributedStorageOptions> = {}, roots = 3) {
    super('distributed');
    this.roots = rootsIn(this.dir, roots);
    this.storage = new DistributedStorage(this.arena, {
      roots: this.roots,
      replicaCount: 2,
      writeQuorum: 2,
      timeoutMs: 2000,
      firstDelayMs: 20,
      scrubIntervalMs: 3_600_000,
      scrubBytesPerS: 1e9,
      spillThresholdBytes: SPILL_BYTES,
      sweepMinAgeMs: 0,
      names: new ObjectNames(SCHEME.distributed, () => 'owner'),
      say: (note) => this.notes.push(note),
      ...options,
    });
  }

  /** Files of an object, in the order in which they are read. */
  replicas(ref: ContentRef | undefined): string[] {
    const { object } = ref as ContentRef;
    const ranked = rank(
      object,
      this.roots.map((path) => ({ path })),
    );
    return ranked.map(({ path }) => join(path, pathOf(object))).filter((file) => this.has(file));
  }

  has(file: string): boolean {
    try {
      readFileSync(file);
      return true;
    } catch {
      return false;
    }
  }

  files(root: number): string[] {
    return filesBelow(this.roots[root] as string);
  }

  said<E extends StorageNote['event']>(event: E): FieldsOf<E>[] {
    return this.notes.flatMap((note) => (note.event === event ? [note.fields as FieldsOf<E>] : []));
  }

  /** A small disk of its own in place of a root. */
  mount(root: number, sizeKb: number): Tmpfs {
    const disk = new Tmpfs(this.roots[root] as string, sizeKb);
    this.#disks.push(disk);
    return disk;
  }

  async close(): Promise<void> {
    await this.storage.close();
    for (const disk of this.#disks) disk.unmount();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
