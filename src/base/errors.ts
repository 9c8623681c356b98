/** Faults of the world outside, in one table: a code for each, and whether a retry may help. */
const ERRORS = {
  config_invalid: { temporary: false },
  listen_failed: { temporary: false },
  data_dir_unusable: { temporary: false },
  already_running: { temporary: false },
  database_unavailable: { temporary: true },
  database_busy: { temporary: true },
  database_full: { temporary: true },
  database_corrupt: { temporary: false },
  database_refused: { temporary: false },
  schema_unknown: { temporary: false },
  storage_unavailable: { temporary: true },
  storage_full: { temporary: true },
  storage_failed: { temporary: false },
  content_missing: { temporary: false },
  memory_exhausted: { temporary: true },
  control_failed: { temporary: false },
  control_silent: { temporary: true },
  bad_request: { temporary: false },
} as const satisfies Record<string, { temporary: boolean }>;

export type ErrorCode = keyof typeof ERRORS;

export class RelayError extends Error {
  readonly code: ErrorCode;
  readonly temporary: boolean;

  /** @param message what happened, to which file, host or key, and what to do. */
  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'RelayError';
    this.code = code;
    this.temporary = ERRORS[code].temporary;
  }
}

/** Whether the system refused something: a file, a socket, a process. */
export function isOfSystem(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}

/** What ended the start, where the world is to blame; null when the program is. */
export function startFault(error: unknown): RelayError | null {
  if (error instanceof RelayError) return error;
  if (!isOfSystem(error)) return null;
  const text = `cannot start: ${error.message}; check the path, its owner and its file system`;
  return new RelayError('data_dir_unusable', text, error);
}
