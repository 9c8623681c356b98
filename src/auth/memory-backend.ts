/** Users that stand in the config itself, with their passwords. */
import { createHmac, createSecretKey, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Config } from '../config/schema.ts';
import { saslPrepare } from '../protocol/sasl/prepare.ts';
import { SCRAM_ITERATIONS, type ScramKeys } from '../protocol/sasl/scram.ts';
import type { Backend, Login, Secrets } from './backend.ts';
import type { AuthPool } from './pool.ts';
import type { GivenRules } from './rules.ts';
import type { SecretSource } from './shared-secret.ts';
import { saltOf } from './unknown-user.ts';

type BackendConfig = Config['auth']['backends'][number];

interface MemoryUser {
  password: string;
  rules: GivenRules;
  /** Made for all users before the first answer: else the time it takes would tell who exists. null without SCRAM. */
  keys: ScramKeys | null;
}

export class MemoryBackend implements Backend {
  readonly name = 'memory';
  readonly timeoutMs: number;
  readonly immediate = true;
  readonly #users = new Map<string, MemoryUser>();
  readonly #scram: boolean;
  readonly #salts: SecretSource;
  readonly #pool: AuthPool;
  /** Passwords are compared as digests under this key. */
  readonly #key = createSecretKey(randomBytes(32));
  #ready: Promise<void> | null = null;

  /** @param scram whether SCRAM is offered: its keys cost some milliseconds a user. */
  constructor(
    { users = [], timeout_ms }: BackendConfig,
    { pool, salts, scram }: { pool: AuthPool; salts: SecretSource; scram: boolean },
  ) {
    this.timeoutMs = timeout_ms;
    this.#scram = scram;
    this.#salts = salts;
    this.#pool = pool;
    for (const { username, password: given, ...rules } of users) {
      const password = saslPrepare(given) ?? given;
      this.#users.set(saslPrepare(username) ?? username, { password, rules, keys: null });
    }
    if (scram) this.#keysReady().catch(() => {}); // asked for again at a login
  }

  /** Makes the keys one after the other: the queue of the pool is for logins. */
  async #deriveKeys(): Promise<void> {
    const secret = await this.#salts.get();
    const never = new AbortController().signal;
    for (const [name, user] of this.#users) {
      const { password } = user;
      const salt = saltOf(secret, name);
      user.keys = await this.#pool
        .run<'derive'>({ kind: 'derive', password, salt, iterations: SCRAM_ITERATIONS }, never)
        .catch(() => null); // the relay stops
    }
  }

  /** Resolves when all keys are made; rejects while the secret cannot be had. */
  #keysReady(): Promise<void> {
    this.#ready ??= this.#deriveKeys().catch((error: unknown) => {
      this.#ready = null;
      throw error;
    });
    return this.#ready;
  }

  async login({ username, password }: Login): Promise<GivenRules | null> {
    const user = this.#users.get(username);
    // Digests have one length whatever the passwords have; an unknown user is compared with something too.
    const expected = this.#digest(user?.password ?? `${username}\0`);
    const matches = timingSafeEqual(expected, this.#digest(password));
    return user !== undefined && matches ? user.rules : null;
  }

  async secrets(username: string): Promise<Secrets | null> {
    if (this.#scram) await this.#keysReady();
    return this.#users.get(username) ?? null;
  }

  #digest(password: string): Buffer {
    return createHmac('sha256', this.#key).update(password, 'utf8').digest();
  }
}
