/** Maps what MariaDB and MySQL say to the RelayError an operator reads. The one place that knows their error numbers. */
import { RelayError } from '../../base/errors.ts';

/** Server errors (mysqld_error.h), by what they mean for the queue. */
const RETRY = new Set([
  1213, // deadlock: the transaction was rolled back
  1020, // record changed since last read (innodb_snapshot_isolation)
]);
/** Lock wait timeout: the transaction that has the row may hang, and keep it for longer. */
const LOCKED = 1205;
const DUPLICATE = 1062;
const DISK_FULL = new Set([1021, 1114]);
/** This connection is of no use: the server is read-only, or we lacked rights when the connection was made. */
const UNFIT = new Set([
  1044, // no access to the database
  1142, // no right on a table
  1143, // no right on a column
  1290, // --read-only, or another option, prevents the statement
  1792, // read only transaction
  1836, // read only mode
]);
const UNAVAILABLE = new Set([
  1040, // too many connections
  1045, // no access at all
  1049, // no such database
  1053, // server shutdown in progress
  1129, // host is blocked
  1130, // host is not allowed
  1184, // connection aborted
  1203, // too many connections of the user
  1226, // a resource of the user is used up
  1317, // query interrupted
  1927, // connection was killed
  1969, // statement took too long
  3024, // query took too long
  4031, // idle for too long
]);
const RIGHTS =
  'grant the relay SELECT, INSERT, UPDATE and DELETE on the database; give "protorelay db migrate" a --user who may change tables';
const ADVICE: Record<number, string> = {
  1044: RIGHTS,
  1045: 'check user and password',
  1049: 'create the database, then run "protorelay db migrate"',
  1142: RIGHTS,
  1290: 'point the relay at the writable server',
  1836: 'point the relay at the writable server',
  1792: 'point the relay at the writable server',
};
const SCHEMA = new Set([1054, 1146]);
/** A statement longer than max_allowed_packet: the server closes the connection, and would do so again. */
const TOO_LONG = 1153;

interface ServerError {
  errno?: unknown;
  code?: unknown;
  fatal?: unknown;
  sqlMessage?: unknown;
  message?: unknown;
}

/** Error numbers from here on are the connector's own; no server sent them. */
const CONNECTOR_ERRORS = 45_000;

function errnoOf(error: unknown): number {
  const { errno } = (error ?? {}) as ServerError;
  return typeof errno === 'number' ? errno : 0;
}

/** The transaction was undone and may simply be done again. */
export function isRetryable(error: unknown): boolean {
  return RETRY.has(errnoOf(error));
}

/** A row with that key is there already. */
export function isDuplicate(error: unknown): boolean {
  return errnoOf(error) === DUPLICATE;
}

/** A statement waited for too long for a row that another transaction has; it did nothing. */
export function isLocked(error: unknown): boolean {
  return errnoOf(error) === LOCKED;
}

/** Another connection may work: it may go to the server that took this one's place, or have rights granted since. */
export function isUnfit(error: unknown): boolean {
  return UNFIT.has(errnoOf(error));
}

/** The server refuses a statement of this length over any connection. */
export function isTooLong(error: unknown): boolean {
  return errnoOf(error) === TOO_LONG;
}

/** The connection is gone, or cannot be trusted any more. */
export function isLost(error: unknown): boolean {
  if (error instanceof ConnectionLost || isUnfit(error)) return true;
  const { fatal, code } = (error ?? {}) as ServerError;
  const errno = errnoOf(error);
  return fatal === true || errno < 0 || errno >= CONNECTOR_ERRORS || /^E[A-Z]+$/.test(String(code));
}

/** Rows that a statement was to change are others by now than those that were locked: it must be undone. */
export class RowsChanged extends Error {
  override name = 'RowsChanged';
}

/** We gave up on a connection that did not answer in time. */
export class ConnectionLost extends Error {
  override name = 'ConnectionLost';
}

/** @param server 'mysql relay@db.example.net:3306/relay', for the operator. */
export function mysqlError(error: unknown, server: string): RelayError {
  if (error instanceof RelayError) return error;
  const { sqlMessage, message } = (error ?? {}) as ServerError;
  const said = String(sqlMessage ?? message ?? error);
  const errno = errnoOf(error);
  if (RETRY.has(errno) || errno === LOCKED)
    return new RelayError('database_busy', `${server}: ${said}`, error);
  if (DISK_FULL.has(errno))
    return new RelayError('database_full', `${server}: ${said}; free disk space`, error);
  if (SCHEMA.has(errno))
    return new RelayError('schema_unknown', `${server}: ${said}; run "protorelay db migrate"`, error);
  if (errno === TOO_LONG)
    return new RelayError('database_refused', `${server}: ${said}; set it to 16 MiB or more`, error);
  if (UNAVAILABLE.has(errno) || isLost(error)) {
    const advice = ADVICE[errno];
    return new RelayError(
      'database_unavailable',
      `${server}: ${said}${advice === undefined ? '' : `; ${advice}`}`,
      error,
    );
  }
  return new RelayError('database_refused', `${server}: ${said} (error ${errno})`, error);
}
