/**
 * How a WebHDFS request can fail, and what an operator reads of it. The REST API maps exceptions to status codes
 * coarsely (every IOException is 403), so the exception's name says more than the status.
 */
import { RelayError } from '../../base/errors.ts';

export type FaultKind =
  /** This namenode is not the active one. */
  | 'standby'
  /** No answer: the connection was refused or reset, or timed out. */
  | 'unreachable'
  /** An error answer that another try may not get. */
  | 'busy'
  | 'full'
  | 'missing'
  /** Our name or token has no right to it; the file may exist. */
  | 'forbidden'
  | 'refused';

const BY_EXCEPTION: Record<string, FaultKind> = {
  StandbyException: 'standby',
  ObserverRetryOnActiveException: 'standby',
  RetriableException: 'busy',
  SafeModeException: 'busy',
  IOException: 'busy',
  RemoteException: 'busy',
  ConnectException: 'busy',
  SocketTimeoutException: 'busy',
  EOFException: 'busy',
  ClosedChannelException: 'busy',
  BlockMissingException: 'busy',
  CannotObtainBlockLengthException: 'busy',
  AlreadyBeingCreatedException: 'busy',
  RecoveryInProgressException: 'busy',
  LeaseExpiredException: 'busy',
  NotReplicatedYetException: 'busy',
  ReplicaNotFoundException: 'busy',
  DSQuotaExceededException: 'full',
  NSQuotaExceededException: 'full',
  QuotaByStorageTypeExceededException: 'full',
  QuotaExceededException: 'full',
  DiskOutOfSpaceException: 'full',
  FileNotFoundException: 'missing',
  AccessControlException: 'forbidden',
  SecurityException: 'forbidden',
  AuthenticationException: 'forbidden',
  InvalidToken: 'forbidden',
};

export class WebHdfsFault extends Error {
  readonly kind: FaultKind;
  /** The datanode that did not answer, as 'host:port'. */
  readonly datanode: string | null;
  /** Whether the fault concerns one file only, so that others may succeed. */
  readonly isOfOneFile: boolean;

  constructor(
    kind: FaultKind,
    message: string,
    about: { datanode?: string | null; isOfOneFile?: boolean } = {},
  ) {
    super(message);
    this.kind = kind;
    this.datanode = about.datanode ?? null;
    this.isOfOneFile = about.isOfOneFile ?? false;
  }

  /** Whether another try may succeed. */
  get isTemporary(): boolean {
    return this.kind === 'standby' || this.kind === 'unreachable' || this.kind === 'busy';
  }
}

/** Exceptions that concern the namenode, not a file. */
const OF_THE_CLUSTER = new Set(['', 'StandbyException', 'RetriableException', 'SafeModeException']);

/** @param body the body of the answer: mostly JSON with a RemoteException. */
export function faultOfAnswer(
  who: string,
  status: number,
  body: string,
  about: { datanode?: string | null; isOfOneFile?: boolean } = {},
): WebHdfsFault {
  const { exception, message } = remoteException(body);
  const text = `${who} answered ${status}${exception === '' ? '' : ` ${exception}`}: ${message}`;
  const isOfOneFile = about.isOfOneFile ?? !(isOverload(status) || OF_THE_CLUSTER.has(exception));
  return new WebHdfsFault(kindOf(status, exception), text, { ...about, isOfOneFile });
}

/** Whether the status is that of a server or proxy that is overloaded, or cannot reach its backend. */
function isOverload(status: number): boolean {
  return status === 408 || status === 429 || (status > 500 && status < 600);
}

function kindOf(status: number, exception: string): FaultKind {
  const byName = BY_EXCEPTION[exception];
  if (byName !== undefined) return byName;
  if (status >= 500 || isOverload(status)) return 'busy';
  if (status === 404) return 'missing';
  return status === 401 || status === 403 ? 'forbidden' : 'refused';
}

/** Class name of the exception without its package, and the first line of its message. */
function remoteException(body: string): { exception: string; message: string } {
  try {
    const { exception, message } = (
      JSON.parse(body) as { RemoteException: { exception?: unknown; message?: unknown } }
    ).RemoteException;
    return {
      exception: String(exception ?? '').replace(/^.*[.$]/, ''),
      message: firstLine(String(message ?? '')),
    };
  } catch {
    return { exception: '', message: firstLine(body) || 'no reason given' }; // a proxy's page, or an empty body
  }
}

const firstLine = (text: string): string => (text.split('\n')[0] ?? '').trim().slice(0, 300);

/** @param error of fetch or of the body's stream. @param datanode the datanode it came from; null: the namenode. */
export function faultOfError(
  error: unknown,
  who: string,
  datanode: string | null,
): WebHdfsFault | RelayError {
  if (error instanceof WebHdfsFault || error instanceof RelayError) return error;
  const said = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (said instanceof RelayError) return said; // our own spill file could not be read
  const { code, message } = said as NodeJS.ErrnoException;
  const text = `${who}: ${message || code || String(said)}`;
  return new WebHdfsFault('unreachable', text, { datanode, isOfOneFile: datanode !== null });
}

/**
 * The fault as a RelayError. When reading, a lack of permission is temporary: the content is there, and no message must
 * be set aside because a token ran out.
 */
export function toRelayError(error: unknown, what: string, doing: 'write' | 'read'): RelayError {
  if (error instanceof RelayError) return error;
  if (!(error instanceof WebHdfsFault))
    return new RelayError('storage_failed', `hdfs_web: ${what}: ${String(error)}`, error);
  const text = `hdfs_web: ${what}: ${error.message}`;
  switch (error.kind) {
    case 'standby':
    case 'unreachable':
    case 'busy':
      return new RelayError('storage_unavailable', text, error);
    case 'full':
      return new RelayError('storage_full', `${text}; free space or raise the quota`, error);
    case 'missing':
      return new RelayError(doing === 'read' ? 'content_missing' : 'storage_failed', text, error);
    case 'forbidden':
      return new RelayError(
        doing === 'read' ? 'storage_unavailable' : 'storage_failed',
        `${text}; check storage.hdfs_web.user, its token and the permissions of base_path`,
        error,
      );
    case 'refused':
      return new RelayError('storage_failed', text, error);
    default:
      return error.kind satisfies never;
  }
}
