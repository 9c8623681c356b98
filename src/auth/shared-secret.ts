/**
 * The secret from which answers about users that do not exist are derived. All nodes of a queue need the same one: else
 * asking two of them would tell who exists. It comes from the config (auth.shared_secret), or lies with the queue on its
 * first server, put there by the node that comes first; a copy in a file serves while that server is away. With SQLite it
 * is the installation's own (secret.ts).
 */
import { createHash, createSecretKey, type KeyObject } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const SECRET_BYTES = 32;
const COPY = 'shared-secret';

export interface SecretSource {
  /** The secret. Rejects when it cannot be had yet. */
  get(): Promise<KeyObject>;
}

/** A source of a secret that is known already. It is a key object, since createHmac takes five times as long with bytes. */
export function fixedSecret(secret: Buffer): SecretSource {
  const key = Promise.resolve(createSecretKey(secret));
  return { get: () => key };
}

/** @param text auth.shared_secret */
export const secretOfText = (text: string): Buffer => createHash('sha256').update(text, 'utf8').digest();

export class SharedSecret implements SecretSource {
  readonly #path: string;
  readonly #ask: () => Promise<Buffer>;
  #key: KeyObject | null = null;
  #asking: Promise<KeyObject> | null = null;

  /**
   * @param folder for the copy.
   * @param ask asks the server for the secret that all nodes share.
   */
  constructor(folder: string, ask: () => Promise<Buffer>) {
    this.#path = join(folder, COPY);
    this.#ask = ask;
  }

  async get(): Promise<KeyObject> {
    if (this.#key !== null) return this.#key;
    this.#asking ??= this.#find().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #find(): Promise<KeyObject> {
    try {
      const secret = await this.#ask();
      this.#key = createSecretKey(secret);
      this.#keep(secret);
      return this.#key;
    } catch (error) {
      const copy = this.#copy();
      // Not remembered, so the server is asked again next time: the queue may have moved to another one since.
      if (copy !== null) return createSecretKey(copy);
      throw error;
    }
  }

  #copy(): Buffer | null {
    try {
      const secret = readFileSync(this.#path);
      return secret.length === SECRET_BYTES ? secret : null;
    } catch {
      return null; // none was made yet
    }
  }

  #keep(secret: Buffer): void {
    if (this.#copy()?.equals(secret)) return;
    const made = `${this.#path}.${process.pid}`;
    try {
      writeFileSync(made, secret, { mode: 0o600, flush: true });
      renameSync(made, this.#path);
    } catch {
      // The disk is full, for example; the server still has the secret.
    }
  }
}
