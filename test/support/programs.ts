/** Which programs nobody here wrote are on this machine; a test that needs a missing one says so and is skipped. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Full path of a program, or null. */
export function programPath(name: string): string | null {
  for (const folder of FOLDERS) {
    if (folder === '') continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

/** The `skip` option of node:test: the reason when one of the programs is missing, else false. */
export function skipWithout(...names: string[]): string | false {
  const missing = names.filter((name) => programPath(name) === null);
  return missing.length > 0 ? `not installed: ${missing.join(', ')}` : false;
}

/** @throws Error saying how to get what is missing. @param missing as the functions here say it. */
export function needs(missing: string | false): void {
  if (missing !== false) throw new Error(`${missing}; "./build.sh test" unpacks what Debian has of it`);
}

/** The reason when we are not root, else false. */
export function skipUnlessRoot(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root';
}
