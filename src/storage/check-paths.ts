/**
 * The folders a config names for content, looked at before anything is started: a start and `config check` say what would
 * else be said of the first message. Makes nothing.
 */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname, sep } from 'node:path';
import type { Config } from '../config/schema.ts';

interface Finding {
  /** Of the key, from the top of the config. */
  path: (string | number)[];
  message: string;
}

export interface PathFindings {
  problems: Finding[];
  warnings: Finding[];
}

/** Of the provider that takes new content. Roots may come back, so that one is worth a word and no refusal. */
export async function checkStoragePaths({ storage, data_dir }: Config): Promise<PathFindings> {
  const { provider, local, distributed } = storage;
  if (provider === 'local') {
    const fault = await faultOf(local.path, data_dir);
    const problems = fault === null ? [] : [{ path: ['storage', 'local', 'path'], message: fault }];
    return { problems, warnings: [] };
  }
  if (provider !== 'distributed') return { problems: [], warnings: [] };
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
  const warnings = faults.flatMap((message, i) =>
    message === null ? [] : [{ path: ['storage', 'distributed', 'roots', i], message }],
  );
  return { problems: [], warnings };
}

/** Why a file cannot be made in it, or it cannot be made itself; null: it can. */
async function faultOf(folder: string, dataDir: string): Promise<string | null> {
  for (let at = folder; ; at = dirname(at)) {
    try {
      if (!(await stat(at)).isDirectory()) return `${folder} cannot be written: ${at} is not a folder`;
      await access(at, constants.W_OK | constants.X_OK);
      return null;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT') return `${folder} cannot be written: ${message}`;
      // The data folder is made at the start, and what is wrong there said then.
      if (at === dataDir && folder.startsWith(`${dataDir}${sep}`)) return null;
      if (dirname(at) === at) return `${folder} cannot be written: ${message}`;
    }
  }
}
