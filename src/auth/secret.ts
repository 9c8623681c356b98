/** A secret of this installation, kept over restarts so that our answers about users that do not exist stay the same. */
import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../base/make-folder.ts';
import { SECRET_BYTES } from './shared-secret.ts';

/** @throws Error of the file system. */
export function loadSecret(folder: string): Buffer {
  const path = join(folder, 'secret');
  makeFolder(folder, 0o700);
  for (;;) {
    try {
      const secret = readFileSync(path);
      if (secret.length === SECRET_BYTES) return secret;
      rmSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    // Linked only when it is complete: another process may do the same now, and one of the two must win.
    const made = `${path}.${process.pid}`;
    writeFileSync(made, randomBytes(SECRET_BYTES), { mode: 0o600, flush: true });
    try {
      linkSync(made, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      rmSync(made, { force: true });
    }
  }
}
