/** The server below the plane: node:http, or node:https where it has a certificate. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Config } from '../config/schema.ts';
import { Connections } from './connections.ts';
import { PROBLEM_TYPE, type Problem, problemText, rawProblem } from './problem.ts';

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
  const headersTimeout = Math.ceil(http.request_timeout_ms / 3);
  const options = {
    connectionsCheckingInterval: LOOK_MS,
    headersTimeout,
    handshakeTimeout: headersTimeout,
    // Said by us, in our form.
    requireHostHeader: false,
    requestTimeout: http.request_timeout_ms,
    keepAliveTimeout: IDLE_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
  };
  const connections = new Connections(http.max_connections, http.request_timeout_ms);
  const listener: RequestListener = (request, response) => {
    if (!connections.begin(request, response)) return;
    if (namesOneHost(request)) handler(request, response);
    else
      response
        .writeHead(BAD_HTTP.status, { 'Content-Type': PROBLEM_TYPE, Connection: 'close' })
        .end(problemText(BAD_HTTP));
  };
  const server =
    certificate === null
      ? createServer(options, listener)
      : createTlsServer({ ...options, ...certificate, minVersion: tls.min_version }, listener);
  server.on('connection', (socket) => connections.add(socket));
  server.on('checkExpectation', listener);
  server.on('clientError', refuseBadHttp);
  return server;
}

/** One Host, or who looks at the first and who looks at the last see two requests; a whole URI counts in its place (RFC 9112, 3.2). */
function namesOneHost({ url = '', headers, rawHeaders }: IncomingMessage): boolean {
  const hosts = rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === 'host');
  const [, authority] = /^https?:\/\/([^/?#]*)/i.exec(url) ?? [];
  if (authority !== undefined) headers.host = authority;
  return hosts.length === 1;
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
