/**
 * Content in several roots: every bundle has `replicaCount` replicas, and is durable once `writeQuorum` are written.
 * Reads check what they read, and take the next replica when one is wrong. Promises that a put that misses the quorum
 * fails with a temporary error within its time, and that one root that fails or hangs costs time once, and no message.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RelayError } from '../../base/errors.ts';
import type { ContentHandle } from '../../mail/message.ts';
import { type Arena, NO_CONTENT } from '../../native.ts';
import { type Bundle, bundlesOf, fillRefs, type Piece } from '../bundle.ts';
import { Deletions } from '../deletions.ts';
import { storageError } from '../errors.ts';
import type { SayNote } from '../notes.ts';
import { BUNDLE, DAY, type ObjectNames, pathOf } from '../object-name.ts';
import type { ContentRef, ReferenceCheck, Storage, StorageItem } from '../storage.ts';
import { closeFd, errnoOf, openVerified, readPart, readVerified, remove, type Unusable } from './files.ts';
import { rank } from './placement.ts';
import { Repairer } from './repair.ts';
import { Root } from './root.ts';

/** Most content of one bundle. Group commits are smaller; this bounds what is copied together for one write. */
const BUNDLE_BYTES = 32 * 1024 * 1024;
/** Large contents get more time: any disk is faster than this. */
const BYTES_PER_MS = 10_000;
const CLOSE_MS = 1000;

export interface DistributedStorageOptions {
  roots: string[];
  replicaCount: number;
  writeQuorum: number;
  /** Longest time of a put or a read; one root may take half of it. */
  timeoutMs: number;
  /** The first pause before a root that failed is tried again. */
  firstDelayMs?: number;
  scrubIntervalMs: number;
  /** Rate at which replicas are checked or copied. */
  scrubBytesPerS: number;
  /** Longer content stays in its file when it is loaded. */
  spillThresholdBytes: number;
  /** Objects younger than this are not swept: another writer of the same database may be about to refer to them. */
  sweepMinAgeMs: number;
  names: ObjectNames;
  say: SayNote;
}

export class DistributedStorage implements Storage {
  readonly #arena: Arena;
  readonly #options: DistributedStorageOptions;
  readonly #roots: Root[];
  readonly #repairer: Repairer;
  /** One deletion at a time in each root, so that a write waits for one at most. */
  readonly #deletions = new Map<Root, Deletions>();
  /** The replica that was checked last, to go on reading it: `queue cat` asks for one part after another. */
  #proven: { object: string; offset: number; root: Root } | null = null;

  constructor(arena: Arena, options: DistributedStorageOptions) {
    this.#arena = arena;
    this.#options = options;
    this.#roots = options.roots.map(
      (path) =>
        new Root(path, {
          firstDelayMs: options.firstDelayMs ?? 1000,
          probeTimeoutMs: options.timeoutMs,
          say: options.say,
          returned: (root) => {
            this.#deletions.get(root)?.resume();
            this.#repairer.scrubSoon();
          },
        }),
    );
    for (const root of this.#roots) this.#deletions.set(root, this.#deletionsIn(root));
    const deletions = [...this.#deletions.values()];
    const isDeleted = (object: string): boolean => deletions.some((one) => one.has(object));
    this.#repairer = new Repairer(this.#roots, { ...options, isDeleted });
  }

  #deletionsIn(root: Root): Deletions {
    const { timeoutMs } = this.#options;
    return new Deletions((object) => root.run(() => root.delete(pathOf(object)), timeoutMs), {
      atOnce: 1,
      isReachable: () => !root.isAside,
    });
  }

  async put(items: StorageItem[]): Promise<ContentRef[]> {
    const refs: ContentRef[] = new Array(items.length);
    const objects: string[] = [];
    try {
      const writes = bundlesOf(this.#arena, items, BUNDLE_BYTES).map((bundle) => {
        const object = this.#options.names.next(bundle.queueId);
        objects.push(object);
        fillRefs(refs, bundle, object, items);
        return this.#write(object, bundle);
      });
      const failed = (await Promise.allSettled(writes)).find((write) => write.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    } catch (error) {
      await this.remove(objects);
      throw storageError(error, this.#roots.map(({ path }) => path).join(', '));
    }
    return refs;
  }

  /** Resolves when the quorum is durable. The other replicas are still being written then, or are repaired later. */
  async #write(object: string, bundle: Bundle): Promise<void> {
    const { replicaCount, writeQuorum, timeoutMs } = this.#options;
    const ranked = rank(
      object,
      this.#roots.filter((root) => root.isHealthy),
    );
    if (ranked.length < writeQuorum) throw this.#belowQuorum();
    const limitMs = timeoutMs + bundle.lengthBytes / BYTES_PER_MS;
    const untilMs = performance.now() + limitMs;
    const pieces = joined(bundle.pieces);
    const { spilled } = bundle;
    if (spilled !== null) this.#arena.retain(spilled);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const faults: unknown[] = [];
    let next = 0;
    let pending = 0;
    let durable = 0;
    const ended = (): void => {
      pending--;
      if (durable + pending < writeQuorum) reject(this.#belowQuorum(faults));
      if (pending > 0) return;
      if (spilled !== null) this.#arena.release(spilled);
      if (durable >= writeQuorum && durable < replicaCount) this.#repairer.note(object);
    };
    const start = (root: Root, rootLimitMs: number): void => {
      pending++;
      root
        .run(() => root.create(pathOf(object), pieces), rootLimitMs)
        .then(
          () => {
            if (++durable === writeQuorum) resolve();
            ended();
          },
          (error: unknown) => {
            faults.push(error);
            const leftMs = untilMs - performance.now();
            const spare = durable < writeQuorum && leftMs > 0 ? ranked[next++] : undefined;
            if (spare !== undefined) start(spare, leftMs);
            ended();
          },
        );
    };
    while (next < Math.min(replicaCount, ranked.length)) start(ranked[next++] as Root, limitMs / 2);
    await promise;
  }

  #belowQuorum(faults: unknown[] = []): RelayError {
    const { writeQuorum } = this.#options;
    const aside = this.#roots.flatMap((root) => (root.fault === null ? [] : [root.fault]));
    const codes = new Set([...aside.map(({ code }) => code), ...faults.map(errnoOf)]);
    const full = codes.size > 0 && [...codes].every((code) => code === 'ENOSPC' || code === 'EDQUOT');
    const reasons = aside.length > 0 ? aside.map(({ message }) => message) : faults.map(String);
    const usable = this.#roots.length - aside.length;
    return new RelayError(
      full ? 'storage_full' : 'storage_unavailable',
      `content must be written to ${writeQuorum} of ${this.#roots.length} roots and ${usable} can be written: ${reasons.join('; ')}`,
      faults[0],
    );
  }

  insert(): void {}

  erase(): void {}

  async discard(refs: ContentRef[]): Promise<void> {
    await this.remove([...new Set(refs.map(({ object }) => object))]);
  }

  /** Deletes without holding up the commit. A root that is aside keeps its replica until it returns. */
  async remove(objects: string[]): Promise<void> {
    for (const object of objects) this.#repairer.forget(object);
    for (const deletions of this.#deletions.values()) deletions.add(objects);
  }

  async load(ref: ContentRef): Promise<ContentHandle> {
    const { object, offset, lengthBytes } = ref;
    if (lengthBytes <= this.#options.spillThresholdBytes) {
      const { value } = await this.#read(object, lengthBytes, (path) =>
        readVerified(path, offset, lengthBytes),
      );
      return this.#arena.store(value);
    }
    const { value: fd } = await this.#read(
      object,
      lengthBytes,
      (path) => openVerified(path, offset, lengthBytes),
      (late) => typeof late === 'number' && void closeFd(late),
    );
    const content = this.#arena.storeFile(fd, offset, lengthBytes);
    if (content === NO_CONTENT) await closeFd(fd);
    return content;
  }

  async read(ref: ContentRef, offset: number, maxBytes: number): Promise<Uint8Array> {
    const count = Math.max(0, Math.min(maxBytes, ref.lengthBytes - offset));
    if (count === 0) return new Uint8Array(0);
    // The replica that was checked may go away between two parts; then take another one, as often as there are roots.
    for (let tries = 0; tries <= this.#roots.length; tries++) {
      const root = await this.#prove(ref);
      const path = join(root.path, pathOf(ref.object));
      const { timeoutMs } = this.#options;
      const part = await root
        .run(() => readPart(path, ref.offset + offset, count), timeoutMs)
        .catch(() => null);
      if (Buffer.isBuffer(part)) return part;
      this.#proven = null;
    }
    throw new RelayError('storage_unavailable', `content object ${ref.object} cannot be read now`);
  }

  async #prove(ref: ContentRef): Promise<Root> {
    const { object, offset, lengthBytes } = ref;
    const known = this.#proven;
    if (known !== null && known.object === object && known.offset === offset && known.root.isReadable)
      return known.root;
    const { root, value } = await this.#read(
      object,
      lengthBytes,
      (path) => openVerified(path, offset, lengthBytes),
      (late) => typeof late === 'number' && void closeFd(late),
    );
    await closeFd(value);
    this.#proven = { object, offset, root };
    return root;
  }

  /**
   * Reads from the first good replica. Those found missing or damaged are repaired. Throws 'content_missing' only when
   * every root has answered and none has it: a root that does not answer may have it.
   */
  async #read<T>(
    object: string,
    lengthBytes: number,
    use: (path: string) => Promise<T | Unusable>,
    late?: (value: T | Unusable) => void,
  ): Promise<{ root: Root; value: T }> {
    const path = pathOf(object);
    const found: string[] = [];
    let silent = 0;
    let wrong = false;
    for (const root of this.#inReadingOrder(object)) {
      const value = await this.#ask(root, path, lengthBytes, use, late);
      if (value === null) {
        silent++;
        found.push(root.fault?.message ?? `${root.path}: no answer, or nothing of ours`);
      } else if (value === 'missing' || value === 'damaged') {
        wrong = true;
        found.push(`${root.path}: ${value}`);
        if (value === 'damaged')
          this.#options.say({
            event: 'storage.replica_damaged',
            fields: { root: root.path, object },
          });
      } else {
        if (wrong) this.#repairer.note(object);
        return { root, value };
      }
    }
    if (silent > 0) {
      throw new RelayError(
        'storage_unavailable',
        `content object ${object} cannot be read now (${found.join('; ')})`,
      );
    }
    throw new RelayError(
      'content_missing',
      `content object ${object} is not there, or damaged, in every root (${found.join('; ')})`,
    );
  }

  /** Healthy roots in order of placement, then those put aside: a full or read-only disk can still be read. */
  #inReadingOrder(object: string): Root[] {
    const ranked = rank(object, this.#roots);
    return [...ranked.filter((root) => root.isHealthy), ...ranked.filter((root) => !root.isHealthy)];
  }

  /** Asks one root; null when it did not answer. */
  async #ask<T>(
    root: Root,
    path: string,
    lengthBytes: number,
    use: (path: string) => Promise<T | Unusable>,
    late?: (value: T | Unusable) => void,
  ): Promise<T | Unusable | null> {
    if (!root.isReadable) return null;
    try {
      const limitMs = this.#options.timeoutMs / 2 + lengthBytes / BYTES_PER_MS;
      const owner = path.slice(0, path.indexOf('/'));
      return await root.run<T | Unusable | null>(
        async () => {
          const value = await use(join(root.path, path));
          return value === 'missing' && !(await root.knows(owner)) ? null : value;
        },
        limitMs,
        (value) => value !== null && late?.(value),
      );
    } catch {
      return null; // the root is aside now, and its note says why
    }
  }

  async sweep(isReferenced: ReferenceCheck): Promise<number> {
    const swept = new Set<string>();
    for (const root of this.#roots) {
      if (!root.isReadable) continue;
      try {
        await this.#sweepRoot(root, isReferenced, swept);
      } catch {
        // The root failed and is aside now: the next sweep deletes what is left there.
      }
    }
    return swept.size;
  }

  async #sweepRoot(root: Root, isReferenced: ReferenceCheck, swept: Set<string>): Promise<void> {
    const { names, timeoutMs } = this.#options;
    const run = <T>(work: () => Promise<T>): Promise<T> => root.run(work, timeoutMs);
    for (const day of await run(() => namesIn(join(root.path, names.owner)))) {
      if (!DAY.test(day)) continue;
      const folder = join(root.path, names.owner, day);
      for (const name of await run(() => namesIn(folder))) {
        const object = names.of(day, name);
        if (name.endsWith(BUNDLE) && (await isReferenced(object))) continue;
        const path = join(folder, name);
        if (!(await run(() => this.#isOldEnough(path)))) continue;
        await run(() => remove(path));
        swept.add(object);
      }
      await run(() => root.removeFolder(join(names.owner, day)));
    }
  }

  async #isOldEnough(path: string): Promise<boolean> {
    const { sweepMinAgeMs } = this.#options;
    if (sweepMinAgeMs === 0) return true;
    return await stat(path).then(
      ({ mtimeMs }) => Date.now() - mtimeMs >= sweepMinAgeMs,
      () => false,
    );
  }

  async close(): Promise<void> {
    this.#repairer.stop();
    const closed = [...this.#deletions].map(async ([root, deletions]) => {
      await deletions.close(CLOSE_MS);
      await root.close(CLOSE_MS);
    });
    await Promise.all(closed);
  }
}

/** Joins pieces in memory into one, so that a replica is one write; files stay as they are. */
function joined(pieces: Piece[]): Piece[] {
  const result: Piece[] = [];
  let views: Buffer[] = [];
  for (const piece of pieces) {
    if (Buffer.isBuffer(piece)) views.push(piece);
    else {
      result.push(Buffer.concat(views), piece);
      views = [];
    }
  }
  result.push(Buffer.concat(views));
  return result;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []; // the folder is made when the first content comes
    throw error;
  }
}
