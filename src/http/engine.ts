/** The server below the plane: node:http, or node:https where it has a certificate. */
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Config } from '../config/schema.ts';
import { type Problem, rawProblem } from './problem.ts';

/** Connections are looked at for being late so often. */
const LOOK_MS = 1000;
const IDLE_MS = 60_000;
const MAX_HEADER_BYTES = 16_384;

export interface Certificate {
  cert: Buffer;
  key: Buffer;
}

export function createEngine(
  { http, tls }: Config,
  certificate: Certificate | null,
  handler: RequestListener,
): Server {
  const options = {
    connectionsCheckingInterval: LOOK_MS,
    headersTimeout: Math.ceil(http.request_timeout_ms / 3),
    requestTimeout: http.request_timeout_ms,
    keepAliveTimeout: IDLE_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
  };
  const server =
    certificate === null
      ? createServer(options, handler)
      : createTlsServer({ ...options, ...certificate, minVersion: tls.min_version }, handler);
  server.maxConnections = http.max_connections;
  server.on('clientError', refuseBadHttp);
  return server;
}

/** A client that does not speak HTTP, or stops in the middle. */
function refuseBadHttp(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
  else socket.end(rawProblem(PROBLEMS[error.code ?? ''] ?? BAD_HTTP));
}

const BAD_HTTP: Problem = { status: 400, code: 'bad_http', detail: 'this is no request of HTTP/1.1' };
const PROBLEMS: Readonly<Record<string, Problem>> = {
  HPE_HEADER_OVERFLOW: {
    status: 431,
    code: 'header_too_large',
    detail: `the header is longer than ${MAX_HEADER_BYTES} octets`,
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: 408,
    code: 'request_timeout',
    detail: 'the request did not arrive in time',
  },
};
