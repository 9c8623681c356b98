/**
 * Deletes objects beside the commits: a few at the same time, while the others wait; those beyond the limit are left to
 * the sweep, and so are deletions that fail. But when a deletion failed because the place cannot be reached, it waits,
 * as do all others, until `resume` is called.
 */
const MAX_WAITING = 10_000;
const AT_ONCE = 4;

export interface DeletionsOptions {
  atOnce?: number;
  /** Whether the place where the objects lie can be reached now. */
  isReachable?: () => boolean;
}

export class Deletions {
  readonly #delete: (object: string) => Promise<void>;
  readonly #atOnce: number;
  readonly #isReachable: () => boolean;
  readonly #waiting = new Set<string>();
  readonly #underWay = new Set<string>();
  #running = 0;
  #idle: (() => void)[] = [];
  #stopped = false;

  /** @param remove may reject. */
  constructor(remove: (object: string) => Promise<void>, options: DeletionsOptions = {}) {
    this.#delete = remove;
    this.#atOnce = options.atOnce ?? AT_ONCE;
    this.#isReachable = options.isReachable ?? (() => true);
  }

  add(objects: string[]): void {
    for (const object of objects) this.#enqueue(object);
    this.resume();
  }

  #enqueue(object: string): void {
    if (this.#waiting.size < MAX_WAITING) this.#waiting.add(object);
  }

  /** The place can be reached again. */
  resume(): void {
    while (this.#running < this.#atOnce && this.#waiting.size > 0 && this.#mayGoOn()) {
      this.#running++;
      void this.#work();
    }
  }

  /** Whether the object still waits for its deletion. */
  has(object: string): boolean {
    return this.#waiting.has(object) || this.#underWay.has(object);
  }

  #mayGoOn(): boolean {
    return !this.#stopped && this.#isReachable();
  }

  async #work(): Promise<void> {
    while (this.#mayGoOn()) {
      const object = this.#waiting.values().next().value;
      if (object === undefined) break;
      this.#waiting.delete(object);
      this.#underWay.add(object);
      try {
        await this.#delete(object);
      } catch {
        if (!this.#isReachable()) this.#enqueue(object); // otherwise the sweep finds it
      }
      this.#underWay.delete(object);
    }
    if (--this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Waits until everything that can be deleted is, at most `limitMs`; begins nothing after that. */
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
