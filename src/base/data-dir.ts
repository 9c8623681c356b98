/**
 * The data folder belongs to one relay at a time, and each queue in it to one process. The kernel keeps the lock, and
 * takes it back however its holder dies: it is SQLite's lock on an empty file (Node has no flock of its own). Nothing
 * else in this program may open and close `relay.lock` or `queue.lock`: POSIX drops a lock with any descriptor of the
 * file.
 */
import { chmodSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { RelayError } from './errors.ts';
import { makeFolder } from './make-folder.ts';
import { makePrivate, makePrivateFile } from './private-file.ts';

export interface DataDirLock {
  /** A relay used this folder before: files in it that have the names of ours are ours. */
  readonly usedBefore: boolean;
  release(): void;
}

/**
 * Creates the folder (mode 0700) when it is missing and takes it for this program.
 * @param name 'relay': the lock of the program that an operator starts and stops; 'queue': the lock of the one process
 *   that writes the queue of this folder, which may outlive a supervisor that was killed.
 * @throws RelayError 'data_dir_unusable' when it cannot be written; 'already_running', naming the pid of the holder.
 */
export function lockDataDir(dataDir: string, name: 'relay' | 'queue' = 'relay'): DataDirLock {
  const pidFile = join(dataDir, `${name}.pid`);
  let database: DatabaseSync;
  let lockFile: string;
  let usedBefore: boolean;
  try {
    if (makeFolder(dataDir, 0o700)) chmodSync(dataDir, 0o700);
    if (!statSync(dataDir).isDirectory()) throw new Error('it is not a folder');
    lockFile = join(dataDir, `${name}.lock`);
    usedBefore = !makePrivateFile(lockFile);
    // Other users could lock a file that they can open: it is made anew, unless a relay holds it.
    if (makePrivate(lockFile) && !isAlive(readPid(pidFile))) {
      rmSync(lockFile);
      makePrivateFile(lockFile);
    }
    database = new DatabaseSync(lockFile, { timeout: 0 });
  } catch (error) {
    throw unusable(dataDir, error);
  }
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (!/locked|busy/.test((error as Error).message)) throw unusable(dataDir, error);
    const holder = readPid(pidFile);
    const who = holder === null ? 'another relay' : `another relay (pid ${holder})`;
    throw new RelayError(
      'already_running',
      `${who} is running on ${dataDir}; stop it, or give this one a data_dir of its own`,
    );
  }
  try {
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  } catch {
    // The pid only helps those who meet the lock; a full disk must not keep the relay from starting.
  }
  return {
    usedBefore,
    release() {
      rmSync(pidFile, { force: true });
      database.close();
    },
  };
}

/** Whether there is such a process, of whichever user. */
export function isAlive(pid: number | null): boolean {
  if (pid === null) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function unusable(dataDir: string, cause: unknown): RelayError {
  const reason = (cause as Error).message;
  const text = `data_dir ${dataDir} cannot be used: ${reason}; check the path, its owner and its file system`;
  return new RelayError('data_dir_unusable', text, cause);
}

/** Pid of the relay that last took this folder, for messages and signals; null when it is not known. */
export function readPid(pidFile: string): number | null {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8').trim());
    return Number.isSafeInteger(pid) && pid > 0 ? pid : null;
  } catch {
    return null;
  }
}
