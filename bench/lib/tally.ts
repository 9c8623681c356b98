/** Counts how often each numbered message arrived: what is lost, what came twice. Numbers are dense, from 0. */
export class Tally {
  #counts = new Uint32Array(1 << 16);
  /** Highest number seen + 1. */
  end = 0;

  add(number: number, copies = 1): void {
    if (number >= this.#counts.length) this.#grow(number);
    this.#counts[number] = (this.#counts[number] as number) + copies;
    if (number >= this.end) this.end = number + 1;
  }

  count(number: number): number {
    return this.#counts[number] ?? 0;
  }

  /** Copies beyond the `expected` ones, over all numbers. */
  duplicates(expected: number): number {
    let extra = 0;
    for (let i = 0; i < this.end; i++) extra += Math.max(0, (this.#counts[i] as number) - expected);
    return extra;
  }

  /** Numbers seen at least once. */
  distinct(): number {
    let seen = 0;
    for (let i = 0; i < this.end; i++) if (this.#counts[i] !== 0) seen++;
    return seen;
  }

  #grow(number: number): void {
    const counts = new Uint32Array(Math.max(this.#counts.length * 2, number + 1));
    counts.set(this.#counts);
    this.#counts = counts;
  }
}
