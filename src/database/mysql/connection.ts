/**
 * How connections to a MariaDB or MySQL server are made and given up; the only place that makes them. When a connection
 * is given up, every statement on it fails, and none goes on unseen.
 */
import { isIP, type Socket } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { type Connection, type ConnectionConfig, createConnection } from 'mariadb';
import { readRegularText } from '../../base/regular-file.ts';
import type { ServerConfig } from '../../config/schema.ts';
import { ConnectionLost } from './errors.ts';

/** Statements wait only a moment for rows that others have locked: such rows are skipped, or tried later. */
const LOCK_WAIT_SECONDS = 2;
/** The share of query_timeout_ms for which a transaction may lie idle: a node that lives sends statement after statement. */
const IDLE_SHARE = 1 / 3;
/**
 * The server gives up a statement after this many times query_timeout_ms: by then nobody has waited for it for long.
 */
const SERVER_TIMEOUT_FACTOR = 2;

/** 'mysql relay@127.0.0.1:3306/relay': without the password, for messages. */
export function serverName({ host, port, socket, user, database, endpoints }: ServerConfig): string {
  const others = endpoints.length === 0 ? '' : ` (or ${endpoints.join(', ')})`;
  return `mysql ${user}@${socket ?? `${host}:${port}`}/${database}${others}`;
}

export function connectionOptions(server: ServerConfig): ConnectionConfig {
  const { tls, tls_ca_file: caFile } = server;
  const options: ConnectionConfig = {
    user: server.user,
    password: server.password,
    database: server.database,
    connectTimeout: server.connection_timeout_ms,
    bigIntAsNumber: true,
    insertIdAsNumber: true,
    decimalAsNumber: true,
    checkNumberRange: true,
    keepAliveDelay: 30_000,
    prepareCacheLength: 64,
    charset: 'utf8mb4',
    // Over a connection without TLS, MySQL 8 wants the password encrypted with its public key. Whoever could give us a
    // false key on such a connection could read and change all the mail as well.
    allowPublicKeyRetrieval: tls === 'off',
    // Without autocommit: statements are sent behind each other without waiting, and when a deadlock undoes their
    // transaction, those that follow must not stay on their own.
    initSql: [
      'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
      `SET SESSION innodb_lock_wait_timeout = ${LOCK_WAIT_SECONDS}, sql_mode = 'STRICT_ALL_TABLES', time_zone = '+00:00', autocommit = 0`,
    ],
  };
  if (server.socket !== null) options.socketPath = server.socket;
  else {
    options.host = server.host;
    options.port = server.port;
  }
  if (tls !== 'off') {
    const ca = caFile === null ? {} : { ca: readRegularText(caFile) };
    const { host } = server;
    // When the server is named by its address, the connector gives Node a socket without a host name.
    const ssl = {
      ...ca,
      rejectUnauthorized: tls === 'verify',
      ...(server.socket !== null || isIP(host) !== 0 ? {} : { servername: host }),
      checkServerIdentity: (_: string, certificate: PeerCertificate) =>
        checkServerIdentity(host, certificate),
    };
    options.ssl = ssl;
  }
  return options;
}

/**
 * Makes a connection whose destroy() ends it at once, with the statements on it.
 * @throws what the connector says.
 */
export async function connect(options: ConnectionConfig): Promise<Connection> {
  const connection = await createConnection(options);
  connection.on('error', () => {}); // whoever holds the connection learns of it from a statement that fails
  // The connector's own destroy() opens another connection to KILL this one by its number, and does not handle errors
  // of that; behind a proxy for several servers the number may be that of another connection.
  connection.destroy = () => {
    const { __tests: inside } = connection as Connection & { __tests: { getSocket(): Socket | undefined } };
    inside.getSocket()?.destroy(new ConnectionLost('the connection was given up'));
  };
  return connection;
}

/**
 * Makes a connection to the queue.
 * @param then statements to do first, for a connection without transactions. @throws the connector's error.
 */
export async function openConnection(server: ServerConfig, then: string[] = []): Promise<Connection> {
  const options = connectionOptions(server);
  const initSql = [...(options.initSql as string[]), ...then];
  const connection = await connect({ ...options, initSql });
  try {
    const limits = then.length === 0 ? serverLimits(connection, server) : null;
    if (limits !== null) await withTimeout(connection.query(limits), server.connection_timeout_ms);
  } catch (error) {
    connection.destroy();
    throw error;
  }
  return connection;
}

/**
 * The statement that limits how long the server keeps a connection. A node that hangs or is cut off inside a
 * transaction keeps its locks until the server ends the connection, by default after eight hours. MySQL cannot limit
 * idle transactions alone, so there any idle connection is ended, and the pool opens another. The server also does not
 * notice by itself that nobody waits for a statement any more.
 */
function serverLimits(connection: Connection, server: ServerConfig): string | null {
  const { info } = connection;
  if (!info) return null;
  const idle = Math.max(1, Math.ceil((server.query_timeout_ms * IDLE_SHARE) / 1000));
  const statementMs = server.query_timeout_ms * SERVER_TIMEOUT_FACTOR;
  const statement = Math.ceil(statementMs / 1000);
  const limits = info.isMariaDB()
    ? `idle_transaction_timeout = ${idle}, net_write_timeout = ${idle}, max_statement_time = ${statement}`
    : `wait_timeout = ${idle}, max_execution_time = ${statementMs}`;
  return `SET SESSION lock_wait_timeout = ${statement}, ${limits}`;
}

/** @throws ConnectionLost when the work takes longer; the caller has to discard the connection then. */
export async function withTimeout<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ConnectionLost(`no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
