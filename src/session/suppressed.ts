/**
 * Who is on the suppression list, asked at RCPT (suppression.at_rcpt `refuse`). The filter answers for nearly all at once; for
 * the others the session holds its commands until the main thread has looked into the tables. In doubt the recipient is
 * taken: it is looked at again before it is sent.
 */
import { domainOfTarget, suppressionHash, suppressionTarget } from '../mail/suppression.ts';
import type { Answer, Verdict } from '../policy/session-policy.ts';
import { REPLY } from '../protocol/reply.ts';
import type { FromSession } from './messages.ts';

const REFUSED: Verdict = { reply: REPLY.recipient_suppressed, ends: false };

export class SuppressedRecipients {
  readonly #mayHold: (hash: number) => boolean;
  readonly #post: (message: FromSession) => void;
  /** One for each session at most: it holds its commands. */
  readonly #asked = new Map<number, (verdict: Verdict) => void>();
  #last = 0;

  /** @param mayHold whether an entry may have this hash. */
  constructor(mayHold: (hash: number) => boolean, post: (message: FromSession) => void) {
    this.#mayHold = mayHold;
    this.#post = post;
  }

  look(address: string): Answer {
    const target = suppressionTarget(address);
    if (target === null) return null;
    const mayHold = (one: string): boolean => this.#mayHold(suppressionHash('', one));
    if (!mayHold(target) && !mayHold(domainOfTarget(target))) return null;
    const id = ++this.#last;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      this.#post({ type: 'suppressed', id, target });
    });
  }

  answered(id: number, isSuppressed: boolean): void {
    this.#asked.get(id)?.(isSuppressed ? REFUSED : null);
    this.#asked.delete(id);
  }
}
