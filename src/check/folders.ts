/** Folders that a relay makes files in: whether this user may. Makes nothing. */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Finding, Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';

export function checkFolders(config: Config, problem: Say): void {
  const { data_dir, database, log, journal, auth, listeners, inbound_ack_mode: mode } = config;
  const dataFault = folderFault(data_dir);
  if (dataFault !== null) {
    problem(['data_dir'], dataFault, 'check the path, its owner and its file system');
  }
  const check = (path: Finding['path'], folder: string): void => {
    // What lies in a data folder that is at fault is at fault too, which is said already.
    if (dataFault !== null && `${folder}/`.startsWith(`${data_dir}/`)) return;
    const fault = folderFault(folder);
    if (fault !== null) problem(path, fault);
  };
  // A start does not make it: on a file system that is not mounted the queue would seem empty.
  const checkQueueFolder = (folder: string): void => {
    if (folder === data_dir || existsSync(folder)) check(['database', 'path'], folder);
    else problem(['database', 'path'], `the folder ${folder} is not there`, 'make it, or write another path');
  };
  if (database.driver === 'sqlite' && database.path !== ':memory:') {
    if (isFolder(database.path)) problem(['database', 'path'], `${database.path} is a folder`, 'name a file');
    else checkQueueFolder(dirname(database.path));
  }
  if (log.file !== null) check(['log', 'file'], dirname(log.file));
  if (mode === 'after_journal') check(['journal', 'path'], journal.path);
  if (listeners.some((one) => one.auth !== 'off')) check(['auth', 'path'], auth.path);
}

const isFolder = (path: string): boolean => {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
};

/** Why no file can be made in the folder, or the folder itself cannot be made; null when all is well. */
function folderFault(folder: string): string | null {
  for (let at = folder; ; at = dirname(at)) {
    try {
      if (!statSync(at).isDirectory()) return `${folder} cannot be written: ${at} is not a folder`;
      accessSync(at, constants.W_OK | constants.X_OK);
      return null;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOTDIR') continue;
      if (code === 'EACCES') return `${folder} cannot be written by this user: ${at} is closed to it`;
      if (code !== 'ENOENT' || dirname(at) === at) return `${folder} cannot be written: ${message}`;
    }
  }
}
