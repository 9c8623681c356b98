/**
 * Names of content objects. The first characters say which provider an object belongs to, so that content is found
 * after `storage.provider` was changed:
 *
 *   (nothing before)   database  '<queue id>'
 *   (a slash)          local     '<day>/<queue id>.bundle'
 *   'dist:', 'hdfs:'             '<owner>/<day>/<queue id>-<try>.bundle'
 *
 * The owner is the queue database whose rows refer to the object: each sweeps its own folder and no other's. The try
 * makes every write of a replicated provider a new object: a write that was given up, but still hangs in a disk or a
 * datanode, can never touch the object that took its place.
 */
import { randomBytes } from 'node:crypto';
import { queueIdTimeMs } from '../mail/queue-id.ts';

export const SCHEME = { distributed: 'dist:', hdfsWeb: 'hdfs:' } as const;
type Scheme = (typeof SCHEME)[keyof typeof SCHEME];

export type ProviderName = 'database' | 'local' | 'distributed' | 'hdfs_web';

export const DAY = /^\d{4}-\d{2}-\d{2}$/;
export const BUNDLE = '.bundle';

/** '2026-07-14', by the time in the queue id. */
export function dayOf(queueId: string): string {
  return new Date(queueIdTimeMs(queueId)).toISOString().slice(0, 10);
}

export function providerOf(object: string): ProviderName {
  if (object.startsWith(SCHEME.distributed)) return 'distributed';
  if (object.startsWith(SCHEME.hdfsWeb)) return 'hdfs_web';
  return object.includes('/') ? 'local' : 'database';
}

/** Where an object of a replicated provider lies, relative to its root or base path. */
export function pathOf(object: string): string {
  return object.slice(object.indexOf(':') + 1);
}

/** Makes the names for new objects of one provider. */
export class ObjectNames {
  readonly #scheme: Scheme;
  readonly #owner: () => string;
  readonly #life = randomBytes(3).toString('hex');
  #count = 0;

  constructor(scheme: Scheme, owner: () => string) {
    this.#scheme = scheme;
    this.#owner = owner;
  }

  /** The folder below a root that is ours to sweep. */
  get owner(): string {
    return this.#owner();
  }

  next(queueId: string): string {
    const attempt = this.#life + (this.#count++).toString(36);
    return `${this.#scheme}${this.#owner()}/${dayOf(queueId)}/${queueId}-${attempt}${BUNDLE}`;
  }

  /** The object name of a file that was found in one of our day folders. */
  of(day: string, file: string): string {
    return `${this.#scheme}${this.#owner()}/${day}/${file}`;
  }
}
