/**
 * Logins on their way to the main thread, which knows the users: what a session thread asks, which logins failed (they
 * are counted there) and which were proven here, gathered over a loop turn; and which session waits for which answer.
 */
import type { AuthFailure, AuthProof, Credentials } from '../auth/auth.ts';
import type { FromSession, LoginBatch } from './messages.ts';
import type { Session } from './session.ts';

export class Logins {
  readonly #post: (message: FromSession) => void;
  readonly #waiting = new Map<number, Session>();
  #batch: LoginBatch = nothing();
  #nextId = 0;

  constructor(post: (message: FromSession) => void) {
    this.#post = post;
  }

  /** Asks with the turn's batch; the number names the request in its answer and is never used again. */
  ask(credentials: Credentials, session: Session): number {
    const id = this.#nextId++;
    this.#waiting.set(id, session);
    this.#batch.requests.push({ id, credentials, client: session.client.address });
    return id;
  }

  /** A login failed. */
  failed(failure: AuthFailure): void {
    this.#batch.failures.push(failure);
  }

  /** A login was proven by keys in this thread; the main thread does not know it otherwise. */
  proven(proof: AuthProof): void {
    this.#batch.proofs.push(proof);
  }

  /** The session that waits for this answer; undefined when it gave up. */
  claim(id: number): Session | undefined {
    const session = this.#waiting.get(id);
    this.#waiting.delete(id);
    return session;
  }

  /** The session no longer waits. */
  forget(id: number): void {
    this.#waiting.delete(id);
  }

  /** Posts what the turn gathered, if anything. */
  flush(): void {
    const batch = this.#batch;
    if (batch.requests.length + batch.failures.length + batch.proofs.length === 0) return;
    this.#batch = nothing();
    this.#post({ type: 'logins', ...batch });
  }
}

const nothing = (): LoginBatch => ({ requests: [], failures: [], proofs: [] });
