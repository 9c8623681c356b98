/**
 * Checks the folders that a config names for content before anything is started, so that a start and `config check`
 * find faults which else the first message would meet. Creates nothing.
 */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname, sep } from 'node:path';
import type { Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';

/** Looks at the provider that takes new content. A root may come back, so a bad one is only warned of. */
export async function checkStoragePaths(
  { storage, data_dir }: Config,
  problem: Say,
  warning: Say,
): Promise<void> {
  const { provider, local, distributed } = storage;
  if (provider === 'local') {
    const fault = await faultOf(local.path, data_dir);
    if (fault !== null) problem(['storage', 'local', 'path'], fault);
  }
  if (provider !== 'distributed') return;
  const { roots, timeout_ms } = distributed;
  const faults = await Promise.all(
    roots.map((root) =>
      Promise.race([
        faultOf(root, data_dir),
        new Promise<string>((resolve) => {
          setTimeout(resolve, timeout_ms, `${root} does not answer within ${timeout_ms} ms`).unref();
        }),
      ]),
    ),
  );
  for (const [i, fault] of faults.entries())
    if (fault !== null) warning(['storage', 'distributed', 'roots', i], fault);
}

/** Why no file can be made in the folder, or the folder itself cannot be made; null when all is well. */
async function faultOf(folder: string, dataDir: string): Promise<string | null> {
  for (let at = folder; ; at = dirname(at)) {
    try {
      if (!(await stat(at)).isDirectory()) return `${folder} cannot be written: ${at} is not a folder`;
      await access(at, constants.W_OK | constants.X_OK);
      return null;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT') return `${folder} cannot be written: ${message}`;
      // The start makes the data folder, and reports what is wrong with it.
      if (at === dataDir && folder.startsWith(`${dataDir}${sep}`)) return null;
      if (dirname(at) === at) return `${folder} cannot be written: ${message}`;
    }
  }
}
