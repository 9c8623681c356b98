/** The distributed provider alone, over roots in a temporary folder and an arena in plain memory. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  DistributedStorage,
  type DistributedStorageOptions,
} from '../../src/storage/distributed/distributed-storage.ts';
import { rank } from '../../src/storage/distributed/placement.ts';
import type { StorageNote } from '../../src/storage/notes.ts';
import { ObjectNames, pathOf, SCHEME } from '../../src/storage/object-name.ts';
import type { ContentRef } from '../../src/storage/storage.ts';
import { FakeArena } from '../persistence/fake-arena.ts';
import { Tmpfs } from '../support/tmpfs.ts';
import { filesBelow, rootsIn } from './providers.ts';

export class DistributedFixture {
  readonly dir = mkdtempSync(join(tmpdir(), 'distributed-'));
  readonly roots: string[];
  readonly arena = new FakeArena();
  readonly notes: StorageNote[] = [];
  readonly storage: DistributedStorage;
  readonly #disks: Tmpfs[] = [];
  #count = 0;

  constructor(options: Partial<DistributedStorageOptions> = {}, roots = 3) {
    this.roots = rootsIn(this.dir, roots);
    this.storage = new DistributedStorage(this.arena, {
      roots: this.roots,
      replicaCount: 2,
      writeQuorum: 2,
      timeoutMs: 2000,
      firstDelayMs: 20,
      scrubIntervalMs: 3_600_000,
      scrubBytesPerS: 1e9,
      spillThresholdBytes: 262_144,
      sweepMinAgeMs: 0,
      names: new ObjectNames(SCHEME.distributed, () => 'owner'),
      say: (note) => this.notes.push(note),
      ...options,
    });
  }

  /** Stores one bundle of these contents. */
  async put(...contents: (string | Buffer)[]): Promise<ContentRef[]> {
    const items = contents.map((text) => {
      const bytes = Buffer.from(text);
      const content = bytes.length > 262_144 ? this.arena.spill(bytes, this.dir) : this.arena.store(bytes);
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

  said(event: StorageNote['event']): StorageNote['fields'][] {
    return this.notes.filter((note) => note.event === event).map(({ fields }) => fields);
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
