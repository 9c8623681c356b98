/**
 * Tells web addresses of the operator that a rule acted. Nothing waits for them: what is told goes into a queue with a bound, a few
 * at a time, each tried a few times. What cannot be told is lost, and the log says so; the event files have it.
 */
import type { PostOptions } from '../base/web-post.ts';

export interface Hook {
  url: string;
  /** The address may be one of a private network. */
  allowPrivate: boolean;
  /** JSON. */
  body: string;
}

export interface RuleHooksPorts {
  post(url: string, body: Uint8Array, options: PostOptions): Promise<void>;
  addressOf(host: string, allowPrivate: boolean): Promise<string>;
  setTimer(ms: number, fire: () => void): void;
  /** Gives one up. */
  failed(url: string, error: unknown): void;
}

const MAX_WAITING = 1000;
const AT_ONCE = 4;
const TIMEOUT_MS = 10_000;
/** Pauses before further tries. */
const PAUSES_MS = [1000, 10_000, 60_000];

export class RuleHooks {
  readonly #ports: RuleHooksPorts;
  readonly #waiting: { hook: Hook; tries: number }[] = [];
  readonly #end = new AbortController();
  /** On their way, and waiting for a further try. */
  #open = 0;
  #pausing = 0;

  constructor(ports: RuleHooksPorts) {
    this.#ports = ports;
  }

  tell(hook: Hook): void {
    if (this.#waiting.length + this.#pausing >= MAX_WAITING)
      this.#ports.failed(hook.url, new Error(`${MAX_WAITING} others wait`));
    else this.#later(hook, 0);
  }

  /** Gives up what is on its way or waits. */
  close(): void {
    this.#end.abort();
    this.#waiting.length = 0;
  }

  #later(hook: Hook, tries: number): void {
    this.#waiting.push({ hook, tries });
    this.#next();
  }

  #next(): void {
    if (this.#open >= AT_ONCE) return;
    const one = this.#waiting.shift();
    if (one === undefined) return;
    this.#open++;
    void this.#send(one.hook, one.tries).finally(() => {
      this.#open--;
      this.#next();
    });
  }

  async #send(hook: Hook, tries: number): Promise<void> {
    const { url, body, allowPrivate } = hook;
    try {
      await this.#ports.post(url, Buffer.from(body), {
        contentType: 'application/json',
        timeoutMs: TIMEOUT_MS,
        addressOf: (host) => this.#ports.addressOf(host, allowPrivate),
        signal: this.#end.signal,
      });
    } catch (error) {
      if (this.#end.signal.aborted) return;
      const pauseMs = PAUSES_MS[tries];
      if (pauseMs === undefined) {
        this.#ports.failed(url, error);
        return;
      }
      this.#pausing++;
      this.#ports.setTimer(pauseMs, () => {
        this.#pausing--;
        if (!this.#end.signal.aborted) this.#later(hook, tries + 1);
      });
    }
  }
}
