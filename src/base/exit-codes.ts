/** Exit codes of the program, after sysexits.h; docs/exit-codes.md says what to do about each. */
import type { ErrorCode } from './errors.ts';

export const EXIT = {
  ok: 0,
  /** `lint`: there are warnings. */
  lintWarnings: 1,
  /** `lint`: there are errors. */
  lintErrors: 2,
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
  config_invalid: EXIT.config,
  listen_failed: EXIT.unavailable,
  data_dir_unusable: EXIT.cannotCreate,
  already_running: EXIT.temporary,
  database_unavailable: EXIT.unavailable,
  database_busy: EXIT.temporary,
  database_full: EXIT.ioError,
  database_corrupt: EXIT.dataError,
  database_refused: EXIT.software,
  schema_unknown: EXIT.dataError,
  storage_unavailable: EXIT.unavailable,
  storage_full: EXIT.ioError,
  storage_failed: EXIT.ioError,
  content_missing: EXIT.dataError,
  memory_exhausted: EXIT.temporary,
  control_failed: EXIT.unavailable,
  control_silent: EXIT.temporary,
  bad_request: EXIT.usage,
};
