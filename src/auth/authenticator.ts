/**
 * Answers logins: asks the backends in order; the first that knows user and password wins. Remembers verified logins for a
 * short time as keyed digests, bounds how many wait, and gives every backend a time limit. Neither an answer nor the work
 * done for it tells a wrong password from a user that does not exist.
 */

import { createHmac, createSecretKey, randomBytes } from 'node:crypto';
import { clientNetwork, formatNetwork, parseIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import { type MostRecent, mostRecent } from '../base/most-recent.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config, ServerConfig } from '../config/schema.ts';
import { isCramDigest } from '../protocol/sasl/cram-md5.ts';
import type { AuthRequest, AuthResult, Credentials, User } from './auth.ts';
import type { Backend, Secrets, Serves } from './backend.ts';
import { FileBackend } from './file-backend.ts';
import { MemoryBackend } from './memory-backend.ts';
import { AuthPool } from './pool.ts';
import { DatabaseBackend, HttpBackend, PamBackend } from './remote-backends.ts';
import { type GivenRules, rulesOf } from './rules.ts';
import { fixedSecret, type SecretSource, SharedSecret } from './shared-secret.ts';
import { type Standing, Turns } from './turns.ts';
import { unknownUserKeys } from './unknown-user.ts';

/** A backend that fails is named in the log once in this time. */
const FAULT_LOG_INTERVAL_MS = 10_000;

/** Nobody has longer names or passwords: they are refused without a hash. */
const MAX_SECRET_BYTES = 1024;
/** Logins answered at the same time where backends ask others, and so mostly wait. */
const ASKED_AT_ONCE = 16;
const SHARED_SECRET_TIMEOUT_MS = 5000;
/** Clients of successful and of failed logins: how many are remembered, and for how long. */
const MAX_REMEMBERED = 10_000;
const FAILURE_REMEMBERED_MS = 600_000;
const SUCCESS_REMEMBERED_MS = 30 * 86_400_000;

const REJECTED: AuthResult = { result: 'rejected' };
const UNAVAILABLE: AuthResult = { result: 'unavailable' };

/** What the backends said together: the first success; or none, and whether one of them could not answer (faulty). */
type Chained<T> = { found: T } | { found: null; faulty: boolean };

export class Authenticator {
  /** Answers about users that do not exist are derived from it. */
  readonly #secret: SecretSource;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #pool: AuthPool;
  /** Known to this process alone: without it the digests that are remembered are worthless. */
  readonly #cacheKey = createSecretKey(randomBytes(32));
  /** For backends that wait for nobody: with timeouts, each guess of a flood would leave a timer for some seconds. */
  readonly #never = new AbortController().signal;
  readonly #server: ServerConfig | null;
  #auth: Config['auth'];
  #backends: Backend[];
  #cache: MostRecent<GivenRules> | null;
  readonly #turns: Turns;
  /** Pairs of a user and a client it logged in from, as digests. */
  readonly #known = mostRecent<true>(MAX_REMEMBERED, { ttl: SUCCESS_REMEMBERED_MS });
  /** Clients whose logins failed. */
  readonly #failing = mostRecent<true>(MAX_REMEMBERED, { ttl: FAILURE_REMEMBERED_MS });
  readonly #changed: () => void;
  readonly #faultLogged = new Map<string, number>();

  /**
   * @param secret see secret.ts.
   * @param server of the queue; null where the queue is in SQLite.
   * @param changed called when a login finds that what is stored has changed.
   * @param shared folder for the copy of the secret that all nodes share on that server; null: `secret` is used.
   */
  constructor(
    auth: Config['auth'],
    secret: Buffer,
    log: Log,
    now: () => number = steadyMs,
    server: ServerConfig | null = null,
    shared: string | null = null,
    changed: () => void = () => {},
  ) {
    this.#changed = changed;
    this.#server = server;
    this.#log = log;
    this.#now = now;
    this.#auth = auth;
    this.#pool = new AuthPool(auth.threads);
    this.#secret =
      server === null || shared === null
        ? fixedSecret(secret)
        : new SharedSecret(shared, () => this.#askForSecret(server, secret));
    this.#turns = new Turns(turnsOf(auth));
    this.#backends = this.#createBackends();
    this.#cache = createCache(auth);
  }

  /** Takes a reloaded configuration, and forgets which logins were verified before. */
  reconfigure(auth: Config['auth']): void {
    this.#auth = auth;
    this.#turns.reconfigure(turnsOf(auth));
    this.#backends = this.#createBackends();
    this.#cache = createCache(auth);
  }

  /** Never rejects. */
  async answer({ credentials, client }: AuthRequest): Promise<AuthResult> {
    try {
      const answer = await this.#answer(credentials, client);
      if (answer.result === 'accepted') this.proven(credentials.username, client);
      else if (answer.result === 'rejected') this.failed(client);
      return answer;
    } catch (error) {
      this.#fault('auth', error);
      return UNAVAILABLE;
    }
  }

  /** What the backends together can serve besides PLAIN and LOGIN. What cannot be told is taken for served. */
  async serves(): Promise<Serves> {
    const found = await Promise.all(
      this.#backends.map(async (backend): Promise<Serves | null> => {
        const any = backend.secrets !== undefined;
        if (backend.serves === undefined) return { scram: any, cram: any };
        return backend.serves(AbortSignal.timeout(backend.timeoutMs)).catch(() => null);
      }),
    );
    return {
      scram: found.some((one) => one?.scram ?? true),
      cram: found.some((one) => one?.cram ?? true),
    };
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  /** A user that has logged in from a client goes first from there. Sessions report logins by keys. */
  proven(username: string, client: string): void {
    this.#known.set(this.#digest(username, placeOf(client)), true);
  }

  /** A client whose login failed goes last for a while. */
  failed(client: string): void {
    this.#failing.set(placeOf(client), true);
  }

  #standing(username: string, client: string): Standing {
    const place = placeOf(client);
    if (this.#known.has(this.#digest(username, place))) return 'known';
    return this.#failing.has(place) ? 'failing' : 'fresh';
  }

  async #answer(credentials: Credentials, client: string): Promise<AuthResult> {
    if (Buffer.byteLength(credentials.username) > MAX_SECRET_BYTES) return REJECTED;
    switch (credentials.kind) {
      case 'password':
        return this.#password(credentials.username, credentials.password, client);
      case 'cram-md5':
        return this.#cram(credentials, client);
      case 'scram':
        return this.#scram(credentials.username, client);
    }
  }

  async #password(username: string, password: string, client: string): Promise<AuthResult> {
    if (Buffer.byteLength(password) > MAX_SECRET_BYTES) return REJECTED;
    await this.#refresh();
    const key = this.#digest(username, password);
    const known = this.#cache?.get(key);
    // Before any wait: those who guess passwords must not keep out a user that is known.
    if (known !== undefined) return this.#accepted(username, known);
    const cache = this.#cache;
    const answer = await this.#first(username, client, (backend, signal) =>
      backend.login({ username, password, client }, signal),
    );
    if (answer.found === null) return answer.faulty ? UNAVAILABLE : REJECTED;
    cache?.set(key, answer.found);
    return this.#accepted(username, answer.found);
  }

  async #cram(
    { username, challenge, digest }: Extract<Credentials, { kind: 'cram-md5' }>,
    client: string,
  ): Promise<AuthResult> {
    const answer = await this.#first(username, client, async (backend, signal) => {
      const secrets = (await backend.secrets?.(username, signal)) ?? null;
      // Compared with something in any case, so that a user that does not exist takes as long.
      const matches = isCramDigest(challenge, secrets?.password ?? username, digest);
      return secrets !== null && secrets.password !== null && matches ? secrets.rules : null;
    });
    if (answer.found !== null) return this.#accepted(username, answer.found);
    return answer.faulty ? UNAVAILABLE : REJECTED;
  }

  async #askForSecret(server: ServerConfig, ours: Buffer): Promise<Buffer> {
    const task = { kind: 'shared-secret', server, ours: ours.toString('hex') } as const;
    const found = await this.#pool.run<'shared-secret'>(task, AbortSignal.timeout(SHARED_SECRET_TIMEOUT_MS));
    if (!/^[0-9a-f]{64}$/.test(found)) throw new Error('relay_state holds an auth_secret that is none');
    return Buffer.from(found, 'hex');
  }

  async #scram(username: string, client: string): Promise<AuthResult> {
    // Without the secret nobody is answered: else an answer would say that the user exists.
    const secret = await this.#secret.get();
    const answer = await this.#first<Secrets>(username, client, async (backend, signal) => {
      const secrets = await backend.secrets?.(username, signal);
      return secrets?.keys ? secrets : null;
    });
    const { found } = answer;
    if (found?.keys) return { result: 'keys', keys: found.keys, user: this.#user(username, found.rules) };
    if (found === null && answer.faulty) return UNAVAILABLE;
    return { result: 'keys', keys: unknownUserKeys(secret, username), user: null };
  }

  #accepted(username: string, rules: GivenRules): AuthResult {
    return { result: 'accepted', user: this.#user(username, rules) };
  }

  #user(name: string, rules: GivenRules): User {
    return { name, rules: rulesOf(this.#auth, name, rules) };
  }

  /** Forgets verified logins when a backend changed, or cannot be read. */
  async #refresh(): Promise<void> {
    const changed = await Promise.all(
      this.#backends.map((backend) => backend.refresh?.().catch(() => true) ?? false),
    );
    if (!changed.includes(true)) return;
    this.#cache?.clear();
    this.#changed();
  }

  /** When it is the client's turn, asks one backend after the other until one answers something else than null. */
  async #first<T>(
    username: string,
    client: string,
    ask: (backend: Backend, signal: AbortSignal) => Promise<T | null>,
  ): Promise<Chained<T>> {
    if (!(await this.#turns.take(placeOf(client), this.#standing(username, client))))
      return { found: null, faulty: true };
    try {
      return await this.#chain(ask);
    } finally {
      this.#turns.done();
    }
  }

  async #chain<T>(ask: (backend: Backend, signal: AbortSignal) => Promise<T | null>): Promise<Chained<T>> {
    let faulty = false;
    for (const backend of this.#backends) {
      try {
        const signal = backend.immediate === true ? this.#never : AbortSignal.timeout(backend.timeoutMs);
        const found = await ask(backend, signal);
        if (found !== null) return { found };
      } catch (error) {
        faulty = true;
        this.#fault(backend.name, error);
      }
    }
    return { found: null, faulty };
  }

  #fault(backend: string, error: unknown): void {
    const nowMs = this.#now();
    if (nowMs - (this.#faultLogged.get(backend) ?? Number.NEGATIVE_INFINITY) < FAULT_LOG_INTERVAL_MS) return;
    this.#faultLogged.set(backend, nowMs);
    const { message, cause } = error as Error;
    const why = cause instanceof Error ? `${message}: ${cause.message}` : message;
    this.#log.warn('auth.backend_failed', {
      backend,
      error: why,
      advice: 'logins that it alone knows get 454',
    });
  }

  #digest(username: string, password: string): string {
    return createHmac('sha256', this.#cacheKey).update(`${username}\0${password}`, 'utf8').digest('base64');
  }

  #createBackends(): Backend[] {
    return this.#auth.backends.map((backend) => this.#createBackend(backend));
  }

  #createBackend(backend: Config['auth']['backends'][number]): Backend {
    const scram = this.#auth.mechanisms.includes('SCRAM-SHA-256');
    switch (backend.type) {
      case 'memory':
        return new MemoryBackend(backend, { pool: this.#pool, salts: this.#secret, scram });
      case 'file':
        return new FileBackend(backend, this.#pool, this.#log);
      case 'database':
        return new DatabaseBackend(backend, this.#pool, this.#server);
      case 'pam':
        return new PamBackend(backend, this.#pool);
      case 'http':
        return new HttpBackend(backend);
    }
  }
}

/** Where only hashes are computed, as many places as threads are enough; others can be asked much at once. */
function turnsOf({ backends, threads, max_pending }: Config['auth']): { places: number; pending: number } {
  const hashes = backends.every(
    ({ type, path }) => type === 'file' || (type === 'database' && path !== undefined),
  );
  return { places: hashes ? threads + 1 : Math.max(ASKED_AT_ONCE, threads + 1), pending: max_pending };
}

/** What counts as one client: an IPv4 address, or the /64 from which it can choose its addresses. */
function placeOf(client: string): string {
  const ip = parseIp(client);
  return ip === null ? client : formatNetwork(clientNetwork(ip));
}

function createCache({ cache_ttl_ms: ttl, cache_max_entries: max }: Config['auth']) {
  return ttl === 0 ? null : mostRecent<GivenRules>(max, { ttl });
}
