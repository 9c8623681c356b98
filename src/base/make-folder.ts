import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * As mkdir -p: true when the folder was made, false when the name was there already (whatever it names).
 * Not `mkdirSync` with `recursive`: where the folder above exists and mkdir still answers ENOENT (/proc, some FUSE
 * file systems), Node 24 tries for ever.
 * @throws the Error of mkdir
 */
export function makeFolder(path: string, mode = 0o777): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (code !== 'ENOENT' || existsSync(dirname(path))) throw error;
  }
  makeFolder(dirname(path), mode);
  mkdirSync(path, { mode });
  return true;
}
