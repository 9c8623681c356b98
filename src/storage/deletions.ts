/**
 * Objects to delete, behind the commits: some at once, the others wait, and those beyond the limit are left to the
 * sweep. A deletion that fails is left to it as well.
 */
const MAX_WAITING = 10_000;
const AT_ONCE = 4;

export class Deletions {
  readonly #delete: (object: string) => Promise<void>;
  readonly #waiting: string[] = [];
  #running = 0;
  #idle: (() => void)[] = [];
  #stopped = false;

  /** @param remove may reject. */
  constructor(remove: (object: string) => Promise<void>) {
    this.#delete = remove;
  }

  add(objects: string[]): void {
    for (const object of objects) if (this.#waiting.length < MAX_WAITING) this.#waiting.push(object);
    while (this.#running < AT_ONCE && this.#waiting.length > 0 && !this.#stopped) {
      this.#running++;
      void this.#work();
    }
  }

  async #work(): Promise<void> {
    for (
      let object = this.#waiting.pop();
      object !== undefined && !this.#stopped;
      object = this.#waiting.pop()
    )
      await this.#delete(object).catch(() => {}); // the sweep finds it
    if (--this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Waits until all is deleted, no longer than `limitMs`; then nothing more is begun. */
  async close(limitMs: number): Promise<void> {
    if (this.#running > 0)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, limitMs);
        this.#idle.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    this.#stopped = true;
  }
}
