/** Maps what sqlite says to the RelayError an operator reads. The one place that knows sqlite's result codes. */
import { RelayError } from '../../base/errors.ts';

/** Primary result codes (sqlite3.h). */
const SQLITE = {
  busy: 5,
  locked: 6,
  noMemory: 7,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cantOpen: 14,
  notADatabase: 26,
} as const;

function resultCode(error: unknown): number | null {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code : null;
}

/** @returns a RelayError that names the file; errors that are RelayErrors already pass through. */
export function sqliteError(error: unknown, file: string): RelayError {
  if (error instanceof RelayError) return error;
  const said = error instanceof Error ? error.message : String(error);
  const code = resultCode(error);
  if (code === null) return new RelayError('database_refused', `database ${file}: ${said}`, error);
  switch (code & 0xff) {
    case SQLITE.full:
      return new RelayError('database_full', `database ${file}: no space left; free disk space`, error);
    case SQLITE.noMemory:
      return new RelayError('memory_exhausted', `database ${file}: out of memory`, error);
    case SQLITE.busy:
    case SQLITE.locked:
      return new RelayError('database_unavailable', `database ${file} is locked by another program`, error);
    case SQLITE.readOnly:
      return new RelayError(
        'database_unavailable',
        `database ${file} cannot be written (${said}): make the file and its folder writable for the relay`,
        error,
      );
    case SQLITE.cantOpen:
      return new RelayError(
        'database_unavailable',
        `database ${file} cannot be opened (${said}): check that its folder exists and the relay may write there`,
        error,
      );
    case SQLITE.ioError:
      return new RelayError(
        'database_unavailable',
        `database ${file}: input/output error (${said}, code ${code}); check the disk`,
        error,
      );
    case SQLITE.corrupt:
    case SQLITE.notADatabase:
      return new RelayError(
        'database_corrupt',
        `database ${file} is damaged or not a sqlite file (${said}): restore it from a backup, salvage it with "sqlite3 ${file} .recover", or move it and its -wal and -shm files away to start with an empty queue`,
        error,
      );
    default:
      return new RelayError('database_refused', `database ${file}: ${said} (code ${code})`, error);
  }
}
