/** Files that commands change while a relay reads them: the old one or the new one, never half of it, one change at a time. */
import {
  chownSync,
  closeSync,
  existsSync,
  fchmodSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { RelayError } from './errors.ts';
import { fileFault } from './file-fault.ts';
import { makeFolder } from './make-folder.ts';
import { readRegularText } from './regular-file.ts';

/** @throws RelayError naming the file. A missing one is an empty one. */
export function readIfThere(path: string): string {
  try {
    return readRegularText(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new RelayError('config_invalid', fileFault(path, error), error);
  }
}

/**
 * Puts what `change` makes of the file's text in its place; the file keeps its mode and owner, a new one is its owner's alone.
 * @throws RelayError when another command is changing the file; Error of the file system; what `change` throws.
 */
export function changeFile(path: string, change: (text: string) => string): void {
  makeFolderOf(path);
  const made = `${path}.new`;
  const fd = openNew(made, path);
  try {
    writeFileSync(fd, change(readIfThere(path)));
    fchmodSync(fd, existsSync(path) ? statSync(path).mode & 0o777 : 0o600);
    giveToOwner(made, path);
    fsyncSync(fd);
    renameSync(made, path);
  } catch (error) {
    rmSync(made, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Makes the new file. It cannot be made twice, which keeps two commands from undoing each other's work. */
function openNew(made: string, path: string): number {
  try {
    return openSync(made, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new RelayError(
      'database_busy',
      `another command is changing ${path}; when there is none, remove ${made} that it left behind`,
    );
  }
}

/** A command may run before the relay has ever run, and so before its data folder is there. */
export function makeFolderOf(path: string): void {
  const folder = dirname(path);
  if (makeFolder(folder, 0o700)) giveToOwner(folder, folder);
}

/** The relay must be able to read what root wrote: `made` gets the owner of `path`, or of its folder where that is new. */
export function giveToOwner(made: string, path: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(made === path || !existsSync(path) ? dirname(path) : path);
  chownSync(made, uid, gid);
}
