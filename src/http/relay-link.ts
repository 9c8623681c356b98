/**
 * The relay as the HTTP plane knows it: what answers on its control socket. Each use has a connection of its own, so that an
 * answer that takes long keeps nobody else waiting.
 */
import { RelayError } from '../base/errors.ts';
import { ControlClient } from '../control/client.ts';

export class RelayLink {
  readonly #path: string;
  #client: Promise<ControlClient | null> | null = null;
  #connected: ControlClient | null = null;

  /** @param path of the control socket. */
  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Asks; within the time, or not at all.
   * @throws RelayError 'control_failed' when no relay answers there, 'control_silent' when it does not in time.
   */
  async ask<T>(question: (client: ControlClient) => Promise<T>, timeoutMs: number): Promise<T> {
    const connection = this.#connection();
    let late: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      late = setTimeout(() => {
        reject(new RelayError('control_silent', `the relay did not answer within ${timeoutMs} ms`));
      }, timeoutMs);
    });
    try {
      return await Promise.race([this.#answer(connection, question), silence]);
    } catch (error) {
      // What comes late must not be taken for the answer to the next question.
      this.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** One that was idle may have ended meanwhile. */
  #connection(): Promise<ControlClient | null> {
    if (this.#connected?.isOpen === false) this.close();
    this.#client ??= ControlClient.connect(this.#path).then((client) => {
      this.#connected = client;
      return client;
    });
    return this.#client;
  }

  async #answer<T>(
    connecting: Promise<ControlClient | null>,
    question: (client: ControlClient) => Promise<T>,
  ): Promise<T> {
    const client = await connecting;
    if (client === null) throw new RelayError('control_failed', 'no relay is running');
    return await question(client);
  }

  close(): void {
    this.#client?.then((client) => client?.close()).catch(() => {});
    this.#client = null;
    this.#connected = null;
  }
}
