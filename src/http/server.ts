/** The HTTP plane: every request passes the same gate, whatever its route; what is wrong with it is a problem of RFC 9457. */
import fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import { Access, type Needs } from './access.ts';
import { allowedMethods, type KnownRoute } from './allowed-methods.ts';
import { type Certificate, createEngine } from './engine.ts';
import { type Problem, sendProblem } from './problem.ts';
import { RelayLink } from './relay-link.ts';
import { healthRoutes } from './routes/health.ts';
import { metricsRoutes } from './routes/metrics.ts';
import { statusRoutes } from './routes/status.ts';
import type { Token } from './token.ts';
import type { TokenBook } from './token-file.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may ask; absent: an admin. */
    needs?: Needs;
  }
  interface FastifyRequest {
    /** Who asks; null where everybody may. */
    token: Token | null;
  }
}

const MAX_PARAM_LENGTH = 320;

export interface PlaneParts {
  config: Config;
  /** Certificate and key, where it is HTTPS. */
  certificate: Certificate | null;
  log: Log;
  tokens: TokenBook;
  controlPath: string;
  now(): number;
  steadyMs(): number;
}

export interface Plane {
  app: FastifyInstance;
  close(): Promise<void>;
}

export function createPlane(parts: PlaneParts): Plane {
  const { config, log } = parts;
  const app = createApp(parts);
  const access = new Access(config, parts.tokens);
  const routes: KnownRoute[] = [];
  let active = 0;

  app.decorateRequest('token', null);
  app.addHook('onRoute', ({ method, url }) => void routes.push({ methods: [method].flat(), url }));
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(SAFE_HEADERS);
    const needs = request.is404 ? NO_ROUTE : (request.routeOptions.config.needs ?? { role: 'admin' });
    if (!('open' in needs)) {
      if (active >= config.http.max_concurrent_requests) return sendProblem(reply, BUSY);
      active++;
      reply.raw.once('close', () => active--);
    }
    const checked = access.check(request, needs, parts.now(), parts.steadyMs());
    if ('problem' in checked) return sendProblem(reply, checked.problem);
    request.token = checked.token;
  });
  app.setNotFoundHandler((request, reply) => {
    const methods = allowedMethods(routes, pathOf(request));
    if (methods.length === 0) return sendProblem(reply, NOT_FOUND);
    if (request.method === 'OPTIONS') return reply.code(204).header('Allow', methods.join(', ')).send();
    return sendProblem(reply, { ...WRONG_METHOD, headers: { Allow: methods.join(', ') } });
  });
  app.setErrorHandler((error: FastifyError, _request, reply) => {
    const problem = problemOf(error);
    if (problem.status >= 500) log.error('http.failed', { error });
    return sendProblem(reply, problem);
  });

  const links = {
    health: new RelayLink(parts.controlPath),
    metrics: new RelayLink(parts.controlPath),
    status: new RelayLink(parts.controlPath),
  };
  healthRoutes(app, links.health, parts.steadyMs);
  statusRoutes(app, links.status);
  if (config.metrics.enabled) metricsRoutes(app, config, links.metrics, parts.now);
  return {
    app,
    close: async () => {
      await app.close();
      for (const link of Object.values(links)) link.close();
    },
  };
}

function createApp({ config, certificate }: PlaneParts): FastifyInstance {
  const { http } = config;
  return fastify({
    serverFactory: (handler) => createEngine(config, certificate, handler),
    logger: false,
    bodyLimit: http.max_body_kb * 1024,
    forceCloseConnections: 'idle',
    trustProxy: http.behind_proxy ? http.trusted_proxies : false,
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    frameworkErrors: (error, _request, reply) =>
      void sendProblem(reply.headers(SAFE_HEADERS), problemOf(error)),
  });
}

/** Only who may ask for something is told that it is not there. */
const NO_ROUTE: Needs = { role: 'any', ofTenants: true };

const pathOf = ({ url }: FastifyRequest): string => url.replace(/\?.*$/s, '');

const problem = (status: number, code: string, detail: string): Problem => ({ status, code, detail });
const NOT_FOUND = problem(404, 'not_found', 'there is nothing here');
const WRONG_METHOD = problem(405, 'method_not_allowed', 'this takes other methods: see Allow');
const BUSY: Problem = {
  ...problem(503, 'too_many_at_once', 'too many requests are under way'),
  headers: { 'Retry-After': '1' },
};

/** Of the framework's errors the words are ours: its own may quote what came in. */
const FRAMEWORK: Readonly<Record<number, [code: string, detail: string]>> = {
  413: ['body_too_large', 'the body is longer than http.max_body_kb'],
  414: ['path_too_long', 'a part of the path is too long'],
  415: ['media_type', 'send application/json'],
};

function problemOf(error: FastifyError): Problem {
  const status = error.statusCode ?? 500;
  if (status >= 500 || status < 400)
    return problem(500, 'internal', 'the relay has a fault; its log says more');
  const [code, detail] = FRAMEWORK[status] ?? ['bad_request', 'the request cannot be read'];
  return problem(status, code, detail);
}

const SAFE_HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
} as const;
