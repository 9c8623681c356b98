/**
 * Restores replicas: those that a write could not make, those that a read found wrong, and those that a scrub misses
 * when it walks the roots. Repairs one object at a time, at a bounded rate, without holding up commits. Never deletes a
 * replica, and replaces one only by a copy that was checked.
 */
import { access, opendir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SayNote } from '../notes.ts';
import { BUNDLE, DAY, type ObjectNames, pathOf } from '../object-name.ts';
import { copyReplica, remove, type Unusable, verifyReplica } from './files.ts';
import { rank } from './placement.ts';
import { type Root, syncFolder } from './root.ts';

/** Most objects that wait for repair; the next scrub finds those beyond. */
const MAX_NOTED = 10_000;
const FIRST_SCRUB_MS = 60_000;
const LEAST_PAUSE_MS = 5;

export interface RepairOptions {
  replicaCount: number;
  scrubIntervalMs: number;
  scrubBytesPerS: number;
  names: ObjectNames;
  /** Whether the object is being deleted: then missing replicas are no fault. */
  isDeleted(object: string): boolean;
  say: SayNote;
}

export class Repairer {
  readonly #roots: Root[];
  readonly #options: RepairOptions;
  readonly #noted = new Set<string>();
  /** The object being repaired, and whether it was deleted meanwhile. */
  #inHand: { object: string; deleted: boolean } | null = null;
  #working = false;
  #scrubWanted = false;
  #stopped = false;
  /** Length of the pauses that are still to be made. */
  #owedMs = 0;
  #timer: NodeJS.Timeout | null = null;
  /** Ends the pause between two objects. */
  #wake: (() => void) | null = null;

  constructor(roots: Root[], options: RepairOptions) {
    this.#roots = roots;
    this.#options = options;
    this.#scrubAfter(Math.min(FIRST_SCRUB_MS, options.scrubIntervalMs));
  }

  /** Notes that an object has too few good replicas. */
  note(object: string): void {
    if (this.#noted.size < MAX_NOTED) this.#noted.add(object);
    else this.#scrubWanted = true;
    this.#start();
  }

  /** Notes that an object is deleted. */
  forget(object: string): void {
    this.#noted.delete(object);
    if (this.#inHand?.object === object) this.#inHand.deleted = true;
  }

  /** A root came back: objects that were written without it lack a replica, so the next scrub comes soon. */
  scrubSoon(): void {
    this.#scrubWanted = true;
    this.#start();
  }

  stop(): void {
    this.#stopped = true;
    this.#noted.clear();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#wake?.();
  }

  #scrubAfter(ms: number): void {
    this.#timer = setTimeout(() => this.scrubSoon(), ms).unref();
  }

  #start(): void {
    if (this.#working || this.#stopped) return;
    this.#working = true;
    void this.#work();
  }

  async #work(): Promise<void> {
    while (!this.#stopped) {
      const object = this.#noted.values().next().value;
      if (object !== undefined) {
        this.#noted.delete(object);
        await this.#repair(object);
      } else if (this.#scrubWanted) {
        this.#scrubWanted = false;
        if (this.#timer !== null) clearTimeout(this.#timer);
        await this.#scrub();
        if (!this.#stopped) this.#scrubAfter(this.#options.scrubIntervalMs);
      } else break;
    }
    this.#working = false;
  }

  /** Checks every replica of an object, and copies a good one to where one is missing. */
  async #repair(object: string): Promise<void> {
    const { replicaCount, isDeleted, say } = this.#options;
    if (isDeleted(object)) return;
    const path = pathOf(object);
    const inHand = { object, deleted: false };
    this.#inHand = inHand;
    const good: Root[] = [];
    const damaged: Root[] = [];
    for (const root of rank(object, this.#roots)) {
      if (!root.isReadable) continue;
      const state = await this.#prove(root, path);
      if (state === 'good') good.push(root);
      else if (state === 'damaged') damaged.push(root);
    }
    const source = good[0];
    if (source === undefined) {
      // Without any replica the object was deleted. Damaged ones are kept: a root that returns may have a good one.
      if (damaged.length > 0)
        say({
          event: 'storage.content_damaged',
          fields: { object, roots: damaged.map((r) => r.path) },
        });
      return;
    }
    const lacking = rank(
      object,
      this.#roots.filter((root) => root.isHealthy && !good.includes(root) && !damaged.includes(root)),
    ).slice(0, Math.max(0, replicaCount - good.length - damaged.length));
    for (const target of [...damaged, ...lacking]) await this.#copy(inHand, source, target);
  }

  async #prove(root: Root, path: string): Promise<'good' | Unusable | null> {
    try {
      const { state, lengthBytes } = await verifyReplica(join(root.path, path));
      await this.#pause(lengthBytes);
      return state;
    } catch (error) {
      root.setAside(error);
      return null;
    }
  }

  async #copy(inHand: { object: string; deleted: boolean }, source: Root, target: Root): Promise<void> {
    const { object } = inHand;
    if (inHand.deleted || !target.isHealthy || this.#stopped) return;
    const path = pathOf(object);
    try {
      const folder = await target.makeFolder(dirname(path));
      const copied = await copyReplica(join(source.path, path), join(target.path, path));
      if (copied !== 'copied') return;
      if (inHand.deleted) {
        // The deletion may have passed here before the copy got its name.
        await remove(join(target.path, path));
        return;
      }
      await syncFolder(folder);
    } catch (error) {
      target.setAside(error);
      return;
    }
    this.#options.say({
      event: 'storage.replica_repaired',
      fields: { object, root: target.path, source_root: source.path },
    });
  }

  /** Walks every root: checks each replica there, and counts those in other roots. */
  async #scrub(): Promise<void> {
    const { names, say } = this.#options;
    let replicas = 0;
    let wrong = 0;
    for (const root of this.#roots) {
      for await (const day of entriesOf(join(root.path, names.owner))) {
        if (!DAY.test(day)) continue;
        for await (const file of entriesOf(join(root.path, names.owner, day))) {
          if (this.#stopped || !root.isReadable) break;
          if (!file.endsWith(BUNDLE)) continue;
          const object = names.of(day, file);
          replicas++;
          if ((await this.#isWhole(root, object)) || this.#noted.has(object)) continue;
          wrong++;
          await this.#repair(object);
        }
      }
    }
    say({ event: 'storage.scrubbed', fields: { replicas, wrong } });
  }

  /** Whether this replica is good, and enough others exist. */
  async #isWhole(root: Root, object: string): Promise<boolean> {
    const path = pathOf(object);
    const state = await this.#prove(root, path);
    if (state === 'missing' || state === null) return true; // it was deleted meanwhile, or the root did not answer
    if (state === 'damaged') return false;
    let count = 0;
    for (const other of this.#roots) if (other.isReadable && (await isThere(join(other.path, path)))) count++;
    const possible = this.#roots.filter((one) => one === root || one.isHealthy).length;
    return count >= Math.min(this.#options.replicaCount, possible);
  }

  /** Pauses for as long as these bytes take at the configured rate. */
  async #pause(lengthBytes: number): Promise<void> {
    this.#owedMs += (lengthBytes / this.#options.scrubBytesPerS) * 1000;
    if (this.#owedMs < LEAST_PAUSE_MS || this.#stopped) return;
    const ms = this.#owedMs;
    this.#owedMs = 0;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms).unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }
}

async function* entriesOf(folder: string): AsyncGenerator<string> {
  try {
    for await (const { name } of await opendir(folder)) yield name;
  } catch {
    // The folder was not made yet, or the root is gone, which is reported elsewhere.
  }
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
