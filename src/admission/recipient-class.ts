/**
 * Which class a recipient belongs to (design §7): decided once, at RCPT, and stored with it. This relay holds no
 * mailboxes, so a recipient is either of a domain that we relay for, or external. The classes local and virtual need
 * another implementation of this interface.
 */
import type { RecipientClass } from '../mail/envelope.ts';
import type { RelayPolicy } from './relay-policy.ts';

export interface RecipientClasses {
  /** @param domain lower case, A-labels. */
  classOf(domain: string): RecipientClass;
}

export class RelayClasses implements RecipientClasses {
  readonly #policy: RelayPolicy;

  constructor(policy: RelayPolicy) {
    this.#policy = policy;
  }

  classOf(domain: string): RecipientClass {
    return this.#policy.isRelayDomain(domain) ? 'relay' : 'external';
  }
}
