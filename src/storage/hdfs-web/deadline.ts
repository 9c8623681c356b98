/** A time limit that ends a request through its AbortSignal. */
export class Deadline {
  readonly signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number) {
    const controller = new AbortController();
    const limit = Math.max(1, Math.ceil(ms));
    this.signal = controller.signal;
    this.#timer = setTimeout(() => controller.abort(new Error(`no answer within ${limit} ms`)), limit);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
