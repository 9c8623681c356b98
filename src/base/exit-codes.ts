/** Exit codes of the program, after sysexits.h; docs/exit-codes.md says what to do about each. */
import type { ErrorCode } from './errors.ts';

export const EXIT = {
  ok: 0,
  /** The command line is wrong. */
  usage: 64,
  /** What the command was asked about does not exist or is damaged. */
  dataError: 65,
  /** Something needed is not there: the address to listen on, the running relay. */
  unavailable: 69,
  /** A fault of the program itself; the queue is safe, the log says more. */
  software: 70,
  /** A file or folder cannot be created. */
  cannotCreate: 73,
  /** The disk failed or is full. */
  ioError: 74,
  /** Try again later. */
  temporary: 75,
  config: 78,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The exit code of the program when a RelayError ends it. */
export const EXIT_OF_ERROR: Readonly<Record<ErrorCode, ExitCode>> = {
  'config-invalid': EXIT.config,
  'listen-failed': EXIT.unavailable,
  'data-dir-unusable': EXIT.cannotCreate,
  'already-running': EXIT.temporary,
  'database-unavailable': EXIT.unavailable,
  'database-busy': EXIT.temporary,
  'database-full': EXIT.ioError,
  'database-corrupt': EXIT.dataError,
  'database-refused': EXIT.software,
  'schema-unknown': EXIT.dataError,
  'storage-unavailable': EXIT.unavailable,
  'storage-full': EXIT.ioError,
  'storage-failed': EXIT.ioError,
  'content-missing': EXIT.dataError,
  'memory-exhausted': EXIT.temporary,
  'control-failed': EXIT.unavailable,
};
