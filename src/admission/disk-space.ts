/** Free space where new mail is written: data_dir, and the folders of the storage provider in use. */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';

export type DiskConfig = Pick<Config, 'data_dir'> & {
  inbound_ack_mode: Config['inbound_ack_mode'];
  journal: Pick<Config['journal'], 'path'>;
  storage: Pick<Config['storage'], 'provider' | 'local' | 'distributed'>;
};

interface Folder {
  freeBytes: number;
  asked: boolean;
  failed: boolean;
}

export class DiskSpace {
  readonly #log: Log;
  readonly #freeDisk: (path: string) => Promise<number>;
  readonly #folders = new Map<string, Folder>();

  constructor(log: Log, ask: (path: string) => Promise<number> = freeDisk) {
    this.#log = log;
    this.#freeDisk = ask;
  }

  /** What new mail can count on, by the latest answers; asks again, for the next call. */
  freeBytes({ data_dir, storage, inbound_ack_mode, journal }: DiskConfig): number {
    const { provider, local, distributed } = storage;
    let free = this.#free(data_dir);
    // With a journal, a full storage holds up the draining of the journal, not new mail.
    if (inbound_ack_mode === 'after_journal') return Math.min(free, this.#free(journal.path));
    if (provider === 'local') free = Math.min(free, this.#free(local.path));
    if (provider === 'distributed') {
      const roots = distributed.roots.map((root) => this.#free(root)).sort((a, b) => b - a);
      free = Math.min(free, roots[distributed.write_quorum - 1] ?? 0);
    }
    return free;
  }

  #free(path: string): number {
    let folder = this.#folders.get(path);
    if (folder === undefined) {
      folder = { freeBytes: Number.POSITIVE_INFINITY, asked: false, failed: false };
      this.#folders.set(path, folder);
    }
    this.#ask(path, folder);
    return folder.freeBytes;
  }

  #ask(path: string, folder: Folder): void {
    if (folder.asked) return; // a hanging file system answers late: then the last figure stands
    folder.asked = true;
    this.#freeDisk(path).then(
      (bytes) => {
        folder.freeBytes = bytes;
        folder.asked = false;
        folder.failed = false;
      },
      (error: unknown) => {
        folder.asked = false;
        // Not to know the free space is no reason to refuse mail: the commit will say what is wrong.
        if (!folder.failed) this.#log.warn('pressure.free_disk_unknown', { error });
        folder.failed = true;
      },
    );
  }
}

/** Bytes an unprivileged writer may still use in the file system of `path`, or where it will be made. */
export async function freeDisk(path: string): Promise<number> {
  try {
    const { bavail, blocks, bsize } = await statfs(path);
    // A file system without blocks (/proc, some of FUSE) does not tell its space; it is not full.
    if (blocks === 0) throw new Error(`the file system of ${path} does not say how much space it has`);
    return bavail * bsize;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error;
    return freeDisk(dirname(path));
  }
}
