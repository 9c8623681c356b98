/** Users of the config itself, with their passwords. */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { Config } from '../config/schema.ts';
import { saslPrepare } from '../protocol/sasl/prepare.ts';
import { SCRAM_ITERATIONS, type ScramKeys } from '../protocol/sasl/scram.ts';
import type { Backend, Login, Secrets } from './backend.ts';
import type { AuthPool } from './pool.ts';
import type { GivenRules } from './rules.ts';
import { saltOf } from './unknown-user.ts';

type BackendConfig = Config['auth']['backends'][number];

interface MemoryUser {
  password: string;
  rules: GivenRules;
  /** Made before the first answer: else the time it takes would tell who exists. null where SCRAM is not offered. */
  keys: ScramKeys | null;
}

export class MemoryBackend implements Backend {
  readonly name = 'memory';
  readonly timeoutMs: number;
  readonly immediate = true;
  readonly #users = new Map<string, MemoryUser>();
  readonly #secret: KeyObject;
  readonly #ready: Promise<void>;

  /** @param scram whether SCRAM is offered: its keys cost some milliseconds a user. */
  constructor(
    { users = [], timeout_ms }: BackendConfig,
    { pool, secret, scram }: { pool: AuthPool; secret: KeyObject; scram: boolean },
  ) {
    this.timeoutMs = timeout_ms;
    this.#secret = secret;
    for (const { username, password: given, ...rules } of users) {
      const password = saslPrepare(given) ?? given;
      this.#users.set(saslPrepare(username) ?? username, { password, rules, keys: null });
    }
    this.#ready = scram ? this.#deriveKeys(pool) : Promise.resolve();
  }

  /** One after the other: the queue of the pool is for logins. */
  async #deriveKeys(pool: AuthPool): Promise<void> {
    const never = new AbortController().signal;
    for (const [name, user] of this.#users) {
      const { password } = user;
      const salt = saltOf(this.#secret, name);
      user.keys = await pool
        .run<'derive'>({ kind: 'derive', password, salt, iterations: SCRAM_ITERATIONS }, never)
        .catch(() => null); // the relay stops
    }
  }

  async login({ username, password }: Login): Promise<GivenRules | null> {
    const user = this.#users.get(username);
    // Digests have one length, whatever the passwords have; an unknown user is compared with something too.
    const expected = this.#digest(user?.password ?? `${username}\0`);
    const matches = timingSafeEqual(expected, this.#digest(password));
    return user !== undefined && matches ? user.rules : null;
  }

  async secrets(username: string): Promise<Secrets | null> {
    await this.#ready;
    return this.#users.get(username) ?? null;
  }

  #digest(password: string): Buffer {
    return createHmac('sha256', this.#secret).update(password, 'utf8').digest();
  }
}
