/** Errors as RFC 9457 has them: a JSON object with a `code` that programs go by, and a text for people. */
import type { FastifyReply } from 'fastify';

export interface Problem {
  status: number;
  code: string;
  detail: string;
  /** Further members, and the header fields that belong to the answer. */
  more?: Record<string, unknown>;
  headers?: Record<string, string>;
}

export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  415: 'Unsupported Media Type',
  421: 'Misdirected Request',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
};

const titleOf = (status: number): string => TITLES[status] ?? 'Error';

export function problemText({ status, code, detail, more }: Problem): string {
  return `${JSON.stringify({ type: 'about:blank', title: titleOf(status), status, code, detail, ...more })}\n`;
}

export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply
    .code(problem.status)
    .headers(problem.headers ?? {})
    .type(PROBLEM_TYPE)
    .send(problemText(problem));
}

/** A whole answer, for a client that did not speak HTTP, or not in time; it ends the connection. */
export function rawProblem(problem: Problem): string {
  const body = problemText(problem);
  return `HTTP/1.1 ${problem.status} ${titleOf(problem.status)}\r\nContent-Type: ${PROBLEM_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
}
