/** Faults of the world outside, in one table: a code for each, and whether a retry may help. */
const ERRORS = {
  'config-invalid': { temporary: false },
  'listen-failed': { temporary: false },
  'data-dir-unusable': { temporary: false },
  'already-running': { temporary: false },
  'database-unavailable': { temporary: true },
  'database-busy': { temporary: true },
  'database-full': { temporary: true },
  'database-corrupt': { temporary: false },
  'database-refused': { temporary: false },
  'schema-unknown': { temporary: false },
  'storage-unavailable': { temporary: true },
  'storage-full': { temporary: true },
  'storage-failed': { temporary: false },
  'content-missing': { temporary: false },
  'memory-exhausted': { temporary: true },
  'control-failed': { temporary: false },
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
