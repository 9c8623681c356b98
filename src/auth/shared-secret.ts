/**
 * The secret that what is said of users nobody has comes from, one for all nodes of a queue: else asking two of them would
 * tell who exists. It is the key of the config, or lies with the queue on its first server, put there by whichever node
 * comes first; a copy in a file serves while that server is away. With SQLite it is that of the installation.
 */
import { createHash, createSecretKey, type KeyObject } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const SECRET_BYTES = 32;
const COPY = 'shared-secret';

export interface SecretSource {
  /** Rejects when it cannot be had yet. */
  get(): Promise<KeyObject>;
}

/** Known already. As a key object: createHmac takes five times as long with the bytes. */
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
   * @param folder of the copy.
   * @param ask the server, for the secret that all have.
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
      // Asked again the next time: the queue may have moved to another server since.
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
      // A full disk: the server has it.
    }
  }
}
