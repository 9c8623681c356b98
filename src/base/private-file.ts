/**
 * Files and folders that only we may use, whatever the umask and the mode of their folder. A file that exists is not opened
 * here: closing it would drop every POSIX lock that this process has on it.
 */
import { chmodSync, closeSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';

const OTHERS_MODE_BITS = 0o077;

/**
 * Makes the file (empty, mode 0600); false when it exists already. SQLite gives the files that it puts beside a database
 * the database's mode.
 */
export function makePrivateFile(path: string): boolean {
  try {
    closeSync(openSync(path, 'ax', 0o600));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  }
}

/**
 * Takes all rights on the file or folder from group and others; true when they had any. Leaves alone what does not exist,
 * and links: what these lead to is the operator's.
 */
export function makePrivate(path: string): boolean {
  try {
    const stats = lstatSync(path);
    if ((stats.mode & OTHERS_MODE_BITS) === 0 || !(stats.isFile() || stats.isDirectory())) return false;
    chmodSync(path, stats.mode & 0o7700);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** Names of what a relay makes directly in its data folder, and in the folders of its processes. */
const OWN_NAMES =
  /^(?:(?:queue|relay)\.(?:lock|pid)|queue\.db(?:-wal|-shm|-journal)?|unsettled-\d+|auth|bundles|content|dkim-shown\.json|events|journal|mta-sts|policy|spill|suppression\.filter|suspensions|tls-rpt|process-\d+)$/;

/**
 * Closes to others what an earlier version, or an operator, left open to them in a data folder that a relay has used.
 * @param database file of the queue, if any. It may lie anywhere, so it is touched only if it is a database.
 * @returns the paths that were open.
 * @throws the Error of chmod, when we may not change them.
 */
export function narrowDataDir(dataDir: string, database: string | null = null): string[] {
  const paths: string[] = [];
  if (database !== null && isDatabase(database))
    paths.push(...['', '-wal', '-shm'].map((end) => `${database}${end}`));
  for (const name of readdirSync(dataDir)) {
    if (!OWN_NAMES.test(name)) continue;
    paths.push(join(dataDir, name));
    if (name.startsWith('process-'))
      for (const inner of readdirSync(join(dataDir, name)))
        if (OWN_NAMES.test(inner)) paths.push(join(dataDir, name, inner));
  }
  return paths.filter(makePrivate);
}

/** Whether it is a file of SQLite, or an empty one that may become one. Opens it: see above. */
function isDatabase(path: string): boolean {
  try {
    const stats = lstatSync(path);
    if (!stats.isFile() || stats.size === 0) return stats.isFile();
  } catch {
    return false;
  }
  const fd = openSync(path, 'r');
  try {
    const head = Buffer.alloc(16);
    readSync(fd, head, 0, head.length, 0);
    return head.toString('latin1') === 'SQLite format 3\0';
  } finally {
    closeSync(fd);
  }
}
