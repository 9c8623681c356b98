/** Users of the config itself, with their passwords. */
import { createHmac, timingSafeEqual } from 'node:crypto';
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
  /** Made before the first answer: else the time it takes would tell who exists. */
  keys: Promise<ScramKeys>;
}

export class MemoryBackend implements Backend {
  readonly name = 'memory';
  readonly timeoutMs: number;
  readonly #users = new Map<string, MemoryUser>();
  readonly #secret: Buffer;
  readonly #ready: Promise<unknown>;

  /** @param scram whether SCRAM is offered: its keys cost some milliseconds a user. */
  constructor(
    { users = [], timeout_ms }: BackendConfig,
    { pool, secret, scram }: { pool: AuthPool; secret: Buffer; scram: boolean },
  ) {
    this.timeoutMs = timeout_ms;
    this.#secret = secret;
    const never = new AbortController().signal;
    for (const { username, password: given, ...rules } of users) {
      const name = saslPrepare(username) ?? username;
      const password = saslPrepare(given) ?? given;
      const salt = saltOf(secret, name);
      const keys = scram
        ? pool.run<'derive'>({ kind: 'derive', password, salt, iterations: SCRAM_ITERATIONS }, never)
        : Promise.reject(new Error('SCRAM is not offered'));
      keys.catch(() => {}); // said when somebody asks for them
      this.#users.set(name, { password, rules, keys });
    }
    this.#ready = Promise.allSettled([...this.#users.values()].map(({ keys }) => keys));
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
    const user = this.#users.get(username);
    if (user === undefined) return null;
    const keys = await user.keys.catch(() => null);
    return { keys, password: user.password, rules: user.rules };
  }

  #digest(password: string): Buffer {
    return createHmac('sha256', this.#secret).update(password, 'utf8').digest();
  }
}
