/** Maps errors of the file system to the RelayError that an operator reads. */
import { RelayError } from '../base/errors.ts';

export function storageError(error: unknown, path: string): RelayError {
  if (error instanceof RelayError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new RelayError('storage_full', `content folder ${path}: no space left; free disk space`, error);
    case 'EIO':
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ENODEV':
    case 'ENXIO':
    case 'ESTALE':
    case 'EBUSY':
    case 'EAGAIN':
    case 'ETIMEDOUT':
    case 'ENOTCONN':
    case 'EHOSTDOWN':
      return new RelayError(
        'storage_unavailable',
        `content folder ${path}: ${message}; check the disk and that the relay may write there`,
        error,
      );
    default:
      return new RelayError('storage_failed', `content in ${path}: ${message}`, error);
  }
}
