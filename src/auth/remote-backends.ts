/** Backends that ask others: a table of users, PAM, a URL. */
import type { Config, ServerConfig } from '../config/schema.ts';
import type { Backend, Login, Secrets, Serves } from './backend.ts';
import { secretsOf, servesOf } from './file-backend.ts';
import type { AuthPool } from './pool.ts';
import { type GivenRules, readRules } from './rules.ts';
import type { UserPlace } from './tasks.ts';

type BackendConfig = Config['auth']['backends'][number];

/** Longest answer over HTTP. */
const MAX_ANSWER_BYTES = 65_536;

/** Users of a table, in SQLite or on the queue's server; read on threads of the pool, which may wait. */
export class DatabaseBackend implements Backend {
  readonly name: string;
  readonly timeoutMs: number;
  readonly #place: UserPlace;
  readonly #query: string | undefined;
  readonly #pool: AuthPool;
  /** Hash of the last user found on the server: a user that does not exist is compared with it, and takes as long. */
  #sample: string | undefined;
  #serves: Serves | null = null;

  /** @param server of the queue; null where the queue is in SQLite, and so the backend has a path. */
  constructor({ path = '', query, timeout_ms }: BackendConfig, pool: AuthPool, server: ServerConfig | null) {
    this.name = path === '' ? 'database of the queue' : `database ${path}`;
    this.timeoutMs = timeout_ms;
    this.#place = path === '' && server !== null ? { server } : { path };
    this.#query = query;
    this.#pool = pool;
  }

  async login({ username, password }: Login, signal: AbortSignal): Promise<GivenRules | null> {
    if ('path' in this.#place) return (await this.#row(username, password, signal))?.rules ?? null;
    const row = await this.#row(username, null, signal);
    if (row !== null) this.#sample = row.hash;
    const hash = row?.hash ?? this.#sample;
    const matches =
      hash !== undefined && (await this.#pool.run<'verify'>({ kind: 'verify', hash, password }, signal));
    return row !== null && matches ? row.rules : null;
  }

  async secrets(username: string, signal: AbortSignal): Promise<Secrets | null> {
    const row = await this.#row(username, null, signal);
    return row === null ? null : { ...secretsOf(row.hash), rules: row.rules };
  }

  /** Looks at the first rows of the table, once; what a query of one's own would find cannot be told. */
  async serves(signal: AbortSignal): Promise<Serves | null> {
    if (this.#query !== undefined) return null;
    this.#serves ??= servesOf(await this.#pool.run<'hashes'>({ kind: 'hashes', place: this.#place }, signal));
    return this.#serves;
  }

  #row(username: string, password: string | null, signal: AbortSignal) {
    const task = { kind: 'row', place: this.#place, query: this.#query, username, password } as const;
    return this.#pool.run<'row'>(task, signal);
  }
}

/** Users of the system, checked by a PAM service. */
export class PamBackend implements Backend {
  readonly name: string;
  readonly timeoutMs: number;
  readonly #service: string;
  readonly #configDir: string | undefined;
  readonly #pool: AuthPool;

  constructor({ service = 'smtp', config_dir, timeout_ms }: BackendConfig, pool: AuthPool) {
    this.name = `pam ${service}`;
    this.timeoutMs = timeout_ms;
    this.#service = service;
    this.#configDir = config_dir;
    this.#pool = pool;
  }

  async login(login: Login, signal: AbortSignal): Promise<GivenRules | null> {
    const task = { kind: 'pam', service: this.#service, configDir: this.#configDir, ...login } as const;
    return (await this.#pool.run<'pam'>(task, signal)) ? {} : null;
  }
}

/**
 * Users behind a URL, to which `{"username", "password", "client"}` is posted. The answer 200 with `{"ok": true}`, and
 * the user's rules if it has any, lets the user in; 200 with `{"ok": false}`, 401 and 403 do not.
 */
export class HttpBackend implements Backend {
  readonly name: string;
  readonly timeoutMs: number;
  readonly #url: string;
  readonly #headers: Record<string, string>;

  constructor({ url = '', headers = {}, timeout_ms }: BackendConfig) {
    this.name = `http ${new URL(url).origin}`;
    this.timeoutMs = timeout_ms;
    this.#url = url;
    this.#headers = headers;
  }

  async login(login: Login, signal: AbortSignal): Promise<GivenRules | null> {
    const response = await fetch(this.#url, {
      method: 'POST',
      headers: { ...this.#headers, 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(login),
      redirect: 'error',
      signal,
    });
    const text = await boundedText(response);
    if (response.status === 401 || response.status === 403) return null;
    if (response.status !== 200) throw new Error(`it answered with status ${response.status}`);
    const answer: unknown = JSON.parse(text);
    if (typeof answer !== 'object' || answer === null || !('ok' in answer) || typeof answer.ok !== 'boolean')
      throw new Error('its answer has no "ok" that is true or false');
    if (!answer.ok) return null;
    const rules = readRules(answer as Record<string, unknown>, false);
    if (typeof rules === 'string') throw new Error(`its answer: ${rules}`);
    return rules;
  }
}

async function boundedText(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error(`its answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}
