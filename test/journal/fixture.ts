/** A journal in a folder of its own, on a disk that can be told to fail, over an arena in plain memory. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type JournalDisk, nodeDisk } from '../../src/journal/disk.ts';
import { JournalStore } from '../../src/journal/journal-store.ts';
import type { Appended, Opened, ReadBack, ReadTask } from '../../src/journal/tasks.ts';
import type { Message } from '../../src/mail/message.ts';
import { alignedBuffer, CHUNK_BYTES } from '../../src/native.ts';
import { FakeArena } from '../persistence/fake-arena.ts';

export const MIB = 1_048_576;

export interface FixtureOptions {
  maxBytes?: number;
  segmentBytes?: number;
  inMemoryBytes?: number;
}

/** Throws what the system would. */
export const diskError = (code: string): Error => Object.assign(new Error(`${code}: made up`), { code });

export class JournalFixture {
  readonly folder = mkdtempSync(join(tmpdir(), 'journal-'));
  arena = new FakeArena(100_000 * CHUNK_BYTES);
  store: JournalStore;
  opened: Opened;
  /** Asked before each operation of the disk; throws to make it fail. */
  before: (operation: keyof JournalDisk) => void = () => {};
  readonly #options: FixtureOptions;

  constructor(options: FixtureOptions = {}) {
    this.#options = options;
    this.store = this.#newStore();
    this.opened = this.store.open();
  }

  #newStore(): JournalStore {
    const disk = Object.fromEntries(
      Object.entries(nodeDisk).map(([name, operation]) => [
        name,
        (...args: unknown[]) => {
          this.before(name as keyof JournalDisk);
          return (operation as (...args: unknown[]) => unknown)(...args);
        },
      ]),
    ) as unknown as JournalDisk;
    return new JournalStore({
      folder: this.folder,
      maxBytes: 64 * MIB,
      segmentBytes: 16 * MIB,
      inMemoryBytes: 65_536,
      ...this.#options,
      arena: this.arena,
      disk,
      allocate: alignedBuffer,
    });
  }

  unopened(): JournalStore {
    return this.#newStore();
  }

  /** As after kill -9: nothing is closed. */
  crash(): Opened {
    this.arena = new FakeArena(100_000 * CHUNK_BYTES);
    this.store = this.#newStore();
    this.opened = this.store.open();
    return this.opened;
  }

  restart(): Opened {
    this.store.close(false);
    return this.crash();
  }

  /** Messages named by their queue ids, their contents the same texts. */
  append(ids: readonly string[], shard = 0, withdrawals: number[] = []): Appended {
    const contents = ids.map((id) => this.arena.store(Buffer.from(id)));
    const appended = this.store.append({
      kind: 'append',
      metas: ids.map((id) => JSON.stringify([id, 'trace', 0, id.length, 1000])),
      contents,
      shards: ids.map(() => shard),
      withdrawals,
    });
    for (const content of contents) this.arena.release(content);
    return appended;
  }

  read(shard = 0, change: Partial<ReadTask> = {}): ReadBack {
    return this.store.read({
      kind: 'read',
      shard,
      after: 0,
      pending: [],
      from: null,
      limit: 1000,
      maxBytes: MIB,
      ...change,
    });
  }

  /** Queue ids of what waits, contents checked, in order. */
  ids(back: ReadBack): string[] {
    return back.entries.map(({ meta, content }) => {
      const [id] = JSON.parse(meta) as [string];
      if (this.arena.bytes(content).toString() !== id) throw new Error(`${id} has another's content`);
      this.arena.release(content);
      return id;
    });
  }

  get maxBytes(): number {
    return this.#options.maxBytes ?? 64 * MIB;
  }

  names(): string[] {
    return readdirSync(this.folder);
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

let made = 0;

export function message(arena: FakeArena, shard = 0, content = ''): Message {
  const queueId = `${String(++made).padStart(15, '0')}${shard}`;
  const bytes = Buffer.from(content || `content of ${queueId}`);
  return {
    queueId,
    trace: 'Received: x\r\n',
    content: arena.store(bytes),
    sizeBytes: bytes.length,
    receivedAtMs: 1000,
    client: { address: '192.0.2.1', helo: 'c', protocol: 'ESMTP', sessionId: 's' },
    envelope: {
      reversePath: 'a@b.test',
      body: '8BITMIME',
      smtpUtf8: false,
      recipients: [{ address: 'x@y.test', domain: 'y.test', class: 'relay', notify: 0 }],
    },
  };
}
