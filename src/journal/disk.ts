/** The file system calls by which the journal writes; tests replace them by failing ones. All calls block. */
import {
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  renameSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { RelayError } from '../base/errors.ts';

export interface JournalDisk {
  /** Makes a file to write whole blocks to. @param direct past the page cache; EINVAL where that is impossible. */
  create(path: string, direct: boolean): number;
  write(fd: number, bytes: Buffer, from: number, count: number, offset: number): number;
  sync(fd: number): void;
  truncate(fd: number, bytes: number): void;
  close(fd: number): void;
  /** Makes names in a folder durable. */
  syncFolder(path: string): void;
  rename(from: string, to: string): void;
  unlink(path: string): void;
  /** Creates or replaces a small file: after a crash there is the old file, or the whole new one. */
  replace(path: string, text: string): void;
}

export const nodeDisk: JournalDisk = {
  create(path, direct) {
    const { O_RDWR, O_CREAT, O_TRUNC, O_DIRECT = 0 } = constants;
    return openSync(path, O_RDWR | O_CREAT | O_TRUNC | (direct ? O_DIRECT : 0), 0o600);
  },
  write: (fd, bytes, from, count, offset) => writeSync(fd, bytes, from, count, offset),
  sync: (fd) => fdatasyncSync(fd),
  truncate: (fd, bytes) => ftruncateSync(fd, bytes),
  close: (fd) => closeSync(fd),
  syncFolder(path) {
    const fd = openSync(path, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  },
  rename: (from, to) => renameSync(from, to),
  unlink: (path) => unlinkSync(path),
  replace(path, text) {
    const fresh = `${path}.new`;
    writeFileSync(fresh, text, { mode: 0o600, flush: true });
    renameSync(fresh, path);
    nodeDisk.syncFolder(dirname(path));
  },
};

const DISK_FULL = ['ENOSPC', 'EDQUOT'];

export const isFull = (error: unknown): boolean =>
  DISK_FULL.includes(String((error as NodeJS.ErrnoException).code));

/** The error of the file system as an operator reads it. */
export function journalError(error: unknown, folder: string): RelayError {
  if (error instanceof RelayError) return error;
  const { message, code } = error as NodeJS.ErrnoException;
  if (isFull(error))
    return new RelayError('storage_full', `journal ${folder}: no space left; free disk space`, error);
  if (code === undefined)
    return new RelayError('storage_failed', `journal ${folder}: ${(error as Error).stack ?? message}`, error);
  return new RelayError(
    'storage_unavailable',
    `journal ${folder}: ${message}; check the disk and that the relay may write there`,
    error,
  );
}
