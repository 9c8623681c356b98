/**
 * Files and folders that are nobody's but ours, whatever the umask and whatever the folder's mode. A file is never
 * opened here when it exists: closing it would drop every lock of POSIX this process has on it.
 */
import { chmodSync, closeSync, openSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const OTHERS = 0o077;

/** Makes the file (empty, mode 0600) unless it is there; SQLite gives what it puts beside a file that file's mode. */
export function makePrivateFile(path: string): void {
  try {
    closeSync(openSync(path, 'ax', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Takes from group and others what they may do with it: true when there was something. False also when it is not there. */
export function makePrivate(path: string): boolean {
  try {
    const { mode } = statSync(path);
    if ((mode & OTHERS) === 0) return false;
    chmodSync(path, mode & 0o7700);
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
 * Narrows what an earlier version, or a hand, left open for others.
 * @param others further files, by their paths.
 * @returns the paths that were open.
 * @throws the Error of chmod, when they are not ours to close.
 */
export function narrowDataDir(dataDir: string, others: readonly string[] = []): string[] {
  const paths = [...others];
  for (const name of readdirSync(dataDir)) {
    if (!OURS.test(name)) continue;
    paths.push(join(dataDir, name));
    if (name.startsWith('process-'))
      for (const inner of readdirSync(join(dataDir, name)))
        if (OURS.test(inner)) paths.push(join(dataDir, name, inner));
  }
  return paths.filter(makePrivate);
}
