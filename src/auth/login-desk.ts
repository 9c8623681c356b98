/**
 * Where the logins of all session threads of a process come together, on the main thread: hands requests to the
 * authenticator and each answer back to its thread, and logs the failures. Whoever else counts failed logins gets them
 * by `failed`.
 */

import { isDeepStrictEqual } from 'node:util';
import type { Aside } from '../base/aside.ts';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import { within } from '../base/within.ts';
import type { Config } from '../config/schema.ts';
import type { AuthAnswer, AuthFailure, AuthProof, AuthRequest } from './auth.ts';
import { Authenticator } from './authenticator.ts';
import type { Serves } from './backend.ts';
import { loadSecret } from './secret.ts';
import { secretOfText } from './shared-secret.ts';
import { usersServer } from './user-server.ts';

/** The session threads, as far as answers go. */
export interface AnswerPort {
  loginAnswered(thread: number, answer: AuthAnswer): void;
}

/** How often what is stored is looked at for a change, besides at each login. */
const LOOK_INTERVAL_MS = 30_000;
/** Longest that a start waits for a first look; until it is over, all that the config names is offered. */
const FIRST_LOOK_MS = 1000;

interface LoginTurn {
  requests: AuthRequest[];
  failures: AuthFailure[];
  proofs: AuthProof[];
}

export class LoginDesk {
  readonly #log: Log;
  readonly #aside: Aside;
  readonly #answers: AnswerPort;
  readonly #failed: (failure: AuthFailure) => void;
  readonly #offerChanged: () => void;
  /** null where no listener has AUTH. */
  readonly #authenticator: Authenticator | null;
  #serves: Serves = { scram: true, cram: true };
  #looking: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;
  /** As the config names them. */
  #mechanisms: Config['auth']['mechanisms'];

  /**
   * @param failed called once for every login that failed.
   * @param offerChanged called when `offering` has come to another answer.
   * @throws RelayError data_dir_unusable when the secret of the installation can neither be read nor made.
   */
  constructor(
    { auth, listeners, database }: Config,
    log: Log,
    answers: AnswerPort,
    aside: Aside,
    failed: (failure: AuthFailure) => void = () => {},
    offerChanged: () => void = () => {},
  ) {
    this.#offerChanged = offerChanged;
    this.#mechanisms = auth.mechanisms;
    this.#aside = aside;
    this.#log = log;
    this.#answers = answers;
    this.#failed = failed;
    const used = listeners.some((listener) => listener.auth !== 'off');
    const given = auth.shared_secret;
    const secret = (): Buffer => (given === undefined ? secretOf(auth.path) : secretOfText(given));
    const shared = given === undefined ? auth.path : null;
    this.#authenticator = used
      ? new Authenticator(
          auth,
          secret(),
          log,
          steadyMs,
          usersServer(database),
          shared,
          () => void this.look(),
        )
      : null;
  }

  /** Takes what a session thread gathered over a loop turn. */
  take(thread: number, { requests, failures, proofs }: LoginTurn): void {
    for (const { username, client } of proofs) this.#authenticator?.proven(username, client);
    for (const request of requests) void this.#answer(thread, request);
    for (const failure of failures) {
      const { session, client, mechanism } = failure;
      this.#log.info('auth.failed', { session_id: session, client_address: client, mechanism });
      this.#authenticator?.failed(failure.client);
      this.#failed(failure);
    }
  }

  async #answer(thread: number, request: AuthRequest): Promise<void> {
    const { id } = request;
    let answer: AuthAnswer = { id, result: 'unavailable' };
    // Whatever fails, the session gets an answer.
    await this.#aside.later('auth', async () => {
      const result = await this.#authenticator?.answer(request);
      if (result !== undefined) answer = { id, ...result };
    });
    this.#answers.loginAnswered(thread, answer);
  }

  reconfigure({ auth }: Config): void {
    this.#mechanisms = auth.mechanisms;
    this.#authenticator?.reconfigure(auth);
    void this.look();
  }

  /** Looks at what is stored, now and then again. Waits for the first look as long as it is worth. */
  async start(): Promise<void> {
    if (this.#authenticator === null) return;
    this.#timer = setInterval(() => void this.look(), LOOK_INTERVAL_MS).unref();
    await within(FIRST_LOOK_MS, this.look());
  }

  /** The config with the mechanisms that somebody could use: a client that takes another is refused with its right password. */
  offering(config: Config): Config {
    const { auth } = config;
    return { ...config, auth: { ...auth, mechanisms: this.#offered(auth.mechanisms) } };
  }

  /** All where nothing would be left. */
  #offered(named: Config['auth']['mechanisms']): Config['auth']['mechanisms'] {
    const { scram, cram } = this.#serves;
    const offered = named.filter((one) => (one !== 'SCRAM-SHA-256' || scram) && (one !== 'CRAM-MD5' || cram));
    return offered.length === 0 ? named : offered;
  }

  /** Never rejects. One that is asked for during another looks once more behind it. */
  look(): Promise<void> {
    const before = this.#looking ?? Promise.resolve();
    const looking = before.then(() => this.#aside.later('auth', () => this.#look()));
    this.#looking = looking;
    return looking;
  }

  async #look(): Promise<void> {
    const found = this.#closed ? undefined : await this.#authenticator?.serves();
    if (found === undefined || isDeepStrictEqual(found, this.#serves)) return;
    this.#serves = found;
    const offered = this.#offered(this.#mechanisms);
    const not_offered = this.#mechanisms.filter((one) => !offered.includes(one));
    this.#log.info('auth.mechanisms_changed', { offered, not_offered });
    this.#offerChanged();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#authenticator?.close();
  }
}

function secretOf(folder: string): Buffer {
  try {
    return loadSecret(folder);
  } catch (error) {
    const reason = (error as Error).message;
    throw new RelayError(
      'data_dir_unusable',
      `auth.path ${folder} cannot be used: ${reason}; check its owner and its file system`,
      error,
    );
  }
}
