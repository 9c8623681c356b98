/**
 * Where the logins of all session threads of a process come together, on the main thread: hands requests to the
 * authenticator and each answer back to its thread, and logs the failures. Whoever else counts failed logins gets them
 * by `failed`.
 */

import type { Aside } from '../base/aside.ts';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { AuthAnswer, AuthFailure, AuthProof, AuthRequest } from './auth.ts';
import { Authenticator } from './authenticator.ts';
import { loadSecret } from './secret.ts';
import { secretOfText } from './shared-secret.ts';
import { usersServer } from './user-server.ts';

/** The session threads, as far as answers go. */
export interface AnswerPort {
  loginAnswered(thread: number, answer: AuthAnswer): void;
}

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
  /** null where no listener has AUTH. */
  readonly #authenticator: Authenticator | null;

  /**
   * @param failed called once for every login that failed.
   * @throws RelayError data_dir_unusable when the secret of the installation can neither be read nor made.
   */
  constructor(
    { auth, listeners, database }: Config,
    log: Log,
    answers: AnswerPort,
    aside: Aside,
    failed: (failure: AuthFailure) => void = () => {},
  ) {
    this.#aside = aside;
    this.#log = log;
    this.#answers = answers;
    this.#failed = failed;
    const used = listeners.some((listener) => listener.auth !== 'off');
    const given = auth.shared_secret;
    const secret = (): Buffer => (given === undefined ? secretOf(auth.path) : secretOfText(given));
    const shared = given === undefined ? auth.path : null;
    this.#authenticator = used
      ? new Authenticator(auth, secret(), log, steadyMs, usersServer(database), shared)
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
    this.#authenticator?.reconfigure(auth);
  }

  async close(): Promise<void> {
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
