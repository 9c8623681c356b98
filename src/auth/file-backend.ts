/** Users of a file. Each login looks, at the cost of a stat, whether it changed and has to be read again. */
import { stat } from 'node:fs/promises';
import type { Log } from '../base/log.ts';
import { readRegularLater } from '../base/regular-file.ts';
import type { Config } from '../config/schema.ts';
import type { Backend, Login, Secrets, Serves } from './backend.ts';
import { parseScram } from './hashes.ts';
import type { AuthPool } from './pool.ts';
import type { GivenRules } from './rules.ts';
import { type Account, parseUserFile } from './user-file.ts';

const PLAIN = '{PLAIN}';
/** Bad lines of a file that are named in the log; the rest are only counted. */
const MAX_PROBLEMS = 20;

export class FileBackend implements Backend {
  readonly name: string;
  readonly timeoutMs: number;
  readonly #path: string;
  readonly #pool: AuthPool;
  readonly #log: Log;
  #users = new Map<string, Account>();
  /** Hash that unknown users are compared with, so that they take as long as others. */
  #sample: string | undefined;
  #version = '';
  #refreshing: Promise<boolean> | null = null;

  constructor({ path = '', timeout_ms }: Config['auth']['backends'][number], pool: AuthPool, log: Log) {
    this.name = `file ${path}`;
    this.timeoutMs = timeout_ms;
    this.#path = path;
    this.#pool = pool;
    this.#log = log;
  }

  /** @throws Error when the file cannot be read: what it said before counts no longer. */
  refresh(): Promise<boolean> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refresh(): Promise<boolean> {
    const { mtimeNs, ctimeNs, size, ino } = await stat(this.#path, { bigint: true });
    const version = `${mtimeNs} ${ctimeNs} ${size} ${ino}`;
    if (version === this.#version) return false;
    const { users, problems } = parseUserFile(await readRegularLater(this.#path));
    this.#users = users;
    this.#sample = users.values().next().value?.hash;
    this.#version = version;
    this.#log.info('auth.users_loaded', { path: this.#path, users: users.size, skipped: problems.length });
    for (const problem of problems.slice(0, MAX_PROBLEMS))
      this.#log.warn('auth.user_skipped', { path: this.#path, problem });
    return true;
  }

  async serves(): Promise<Serves | null> {
    await this.refresh();
    return servesOf(Array.from(this.#users.values(), ({ hash }) => hash));
  }

  async login({ username, password }: Login, signal: AbortSignal): Promise<GivenRules | null> {
    await this.refresh();
    const user = this.#users.get(username);
    const hash = user?.hash ?? this.#sample;
    if (hash === undefined) return null;
    const matches = await this.#pool.run<'verify'>({ kind: 'verify', hash, password }, signal);
    return user !== undefined && matches ? user.rules : null;
  }

  async secrets(username: string): Promise<Secrets | null> {
    await this.refresh();
    const user = this.#users.get(username);
    if (user === undefined) return null;
    return { ...secretsOf(user.hash), rules: user.rules };
  }
}

/** What mechanisms these hashes can serve; null when there are none: users may still come. */
export function servesOf(hashes: readonly string[]): Serves | null {
  if (hashes.length === 0) return null;
  return {
    scram: hashes.some((hash) => parseScram(hash) !== null),
    cram: hashes.some((hash) => hash.startsWith(PLAIN)),
  };
}

/** What a stored hash gives to mechanisms that do not send the password. */
export function secretsOf(hash: string): Omit<Secrets, 'rules'> {
  return {
    keys: parseScram(hash),
    password: hash.startsWith(PLAIN) ? hash.slice(PLAIN.length) : null,
  };
}
