/**
 * Files and folders that are nobody's but ours, whatever the umask and whatever the folder's mode. A file is never
 * opened here when it exists: closing it would drop every lock of POSIX this process has on it.
 */
import { chmodSync, closeSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';

const OTHERS = 0o077;

/**
 * Makes the file (empty, mode 0600): false when it is there already. SQLite gives what it puts beside a file that
 * file's mode.
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
 * Takes from group and others what they may do with the file or folder: true when there was something. Left alone is
 * what is not there, and a link: where it leads is the operator's.
 */
export function makePrivate(path: string): boolean {
  try {
    const stats = lstatSync(path);
    if ((stats.mode & OTHERS) === 0 || !(stats.isFile() || stats.isDirectory())) return false;
    chmodSync(path, stats.mode & 0o7700);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** What a relay makes directly in its data folder, and in those of its processes. */
const OURS =
  /^(?:(?:queue|relay)\.(?:lock|pid)|queue\.db(?:-wal|-shm|-journal)?|unsettled-\d+|auth|bundles|content|events|journal|mta-sts|policy|spill|tls-rpt|process-\d+)$/;

/**
 * Narrows what an earlier version, or a hand, left open for others in a data folder that a relay has used before.
 * @param database file of the queue, where there is one; it may lie anywhere, and the config may name something else.
 * @returns the paths that were open.
 * @throws the Error of chmod, when they are not ours to close.
 */
export function narrowDataDir(dataDir: string, database: string | null = null): string[] {
  const paths: string[] = [];
  if (database !== null && isDatabase(database))
    paths.push(...['', '-wal', '-shm'].map((end) => `${database}${end}`));
  for (const name of readdirSync(dataDir)) {
    if (!OURS.test(name)) continue;
    paths.push(join(dataDir, name));
    if (name.startsWith('process-'))
      for (const inner of readdirSync(join(dataDir, name)))
        if (OURS.test(inner)) paths.push(join(dataDir, name, inner));
  }
  return paths.filter(makePrivate);
}

/** Whether it is a file of SQLite's, or an empty one that becomes one. Before this process has it open (see above). */
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
