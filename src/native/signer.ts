/**
 * DKIM signatures, made on threads of the addon (native/signing_pool.cc). A key lies in a slot that every thread of the
 * process knows by its number; a signer belongs to one thread, which gets its results in batches.
 */
import { addon, type Native } from './addon.ts';
import type { Arena } from './contract.ts';
import type { SharedArena } from './shared-arena.ts';

/** Which header fields signatures name, made by `signedFields`. */
export interface SignedFields {
  readonly native: Native;
}

/**
 * @param names in the order to sign; of each, all fields of the message are signed.
 * @param oversigned names of these that are named once more than they occur, so that no field can be added to them.
 */
export function signedFields(names: readonly string[], oversigned: readonly string[]): SignedFields {
  const extra = new Set(oversigned.map((name) => name.toLowerCase()));
  const indexes = names.flatMap((name, i) => (extra.has(name.toLowerCase()) ? [i] : []));
  return { native: addon.dkimRules(names, indexes) };
}

/**
 * Parses a key and keeps it for signatures of this domain and selector.
 * @param pem RSA or Ed25519, without a passphrase. @returns its slot; null when it is no such key.
 */
export function openSigningKey(pem: string, domain: string, selector: string): number | null {
  return addon.dkimKeyOpen(pem, domain, selector) || null;
}

/** Forgets a key; what signs with it goes on. */
export function closeSigningKey(slot: number): void {
  addon.dkimKeyClose(slot);
}

/** How many threads of this process sign; 0: as many as there are processors. They begin with the first signature. */
export function useSigningThreads(count: number): void {
  addon.signingThreads(count);
}

/** How many bodies were hashed since the process began. */
export const { bodyHashesComputed } = addon;

/** Relaxed forms of header and body as C++ makes them, for the test that compares them with another implementation. */
export const { relaxedForms } = addon;

export interface SigningOrder {
  /** Chosen by the caller, 32 bits. */
  ticket: number;
  content: number;
  /** Header fields that go before the content, each with its CRLF. */
  before: string;
  /** Keys to sign with, a signature each. */
  slots: readonly number[];
  fields: SignedFields;
  /** Seconds since 1970; 0: the signature does not expire. */
  signedAt: number;
  expiresAt: number;
}

export class Signer {
  readonly #native: Native;

  /**
   * @param done is called once per loop turn with what was signed: ticket, DKIM-Signature fields (each with its CRLF), and
   *   why there are none ('' when there are), one after the other.
   */
  constructor(arena: Arena, done: (results: (number | string)[]) => void) {
    this.#native = addon.signerCreate((arena as SharedArena).native, done);
  }

  /**
   * Takes an order; it is begun by `flush`. A reference on the content is held until the result comes.
   * @returns false, and nothing comes, when one of the slots is closed.
   */
  add({ ticket, content, before, slots, fields, signedAt, expiresAt }: SigningOrder): boolean {
    return addon.signerAdd(this.#native, ticket, content, before, slots, fields.native, signedAt, expiresAt);
  }

  flush(): void {
    addon.signerFlush(this.#native);
  }

  /** No result comes any more. Waits for what threads have begun. */
  close(): void {
    addon.signerClose(this.#native);
  }
}
