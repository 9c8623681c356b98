/**
 * A binary heap of (time, key) pairs; the scheduler's only time-ordered structure. The owner has to skip stale pairs.
 */
export class DueHeap<K> {
  readonly #dueMs: number[] = [];
  readonly #keys: K[] = [];

  get size(): number {
    return this.#keys.length;
  }

  /** Time of the earliest pair; Infinity when empty. */
  earliestMs(): number {
    return this.#dueMs[0] ?? Number.POSITIVE_INFINITY;
  }

  push(dueMs: number, key: K): void {
    let at = this.#keys.length;
    this.#dueMs.push(dueMs);
    this.#keys.push(key);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((this.#dueMs[parent] as number) <= dueMs) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  /** Removes and returns the key of the earliest pair. */
  pop(): K | undefined {
    const last = this.#keys.length - 1;
    if (last < 0) return undefined;
    this.#swap(0, last);
    const key = this.#keys.pop() as K;
    this.#dueMs.pop();
    this.#sink();
    return key;
  }

  #sink(): void {
    const size = this.#keys.length;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= size) return;
      const right = left + 1;
      const least =
        right < size && (this.#dueMs[right] as number) < (this.#dueMs[left] as number) ? right : left;
      if ((this.#dueMs[at] as number) <= (this.#dueMs[least] as number)) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #swap(a: number, b: number): void {
    const dueMs = this.#dueMs[a] as number;
    this.#dueMs[a] = this.#dueMs[b] as number;
    this.#dueMs[b] = dueMs;
    const key = this.#keys[a] as K;
    this.#keys[a] = this.#keys[b] as K;
    this.#keys[b] = key;
  }
}
