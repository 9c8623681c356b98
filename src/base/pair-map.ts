/**
 * A map by two strings of which the first alone nearly always tells values apart. The two are not joined into one key: a
 * value is looked up three times for every message, and joining and hashing the strings would be most of the cost.
 */
export class PairMap<V extends object> {
  readonly #secondOf: (value: V) => string;
  /** The value, or those that share the first string, by the second. */
  readonly #byFirst = new Map<string, V | Map<string, V>>();
  #size = 0;

  /** @param secondOf the second string of a value that was set. */
  constructor(secondOf: (value: V) => string) {
    this.#secondOf = secondOf;
  }

  get size(): number {
    return this.#size;
  }

  get(first: string, second: string): V | undefined {
    const found = this.#byFirst.get(first);
    if (found instanceof Map) return found.get(second);
    return found !== undefined && this.#secondOf(found) === second ? found : undefined;
  }

  set(first: string, second: string, value: V): void {
    const found = this.#byFirst.get(first);
    if (found instanceof Map) {
      if (!found.has(second)) this.#size++;
      found.set(second, value);
      return;
    }
    const other = found === undefined ? second : this.#secondOf(found);
    if (found === undefined || other === second) this.#byFirst.set(first, value);
    else this.#byFirst.set(first, new Map([[other, found]]).set(second, value));
    if (found === undefined || other !== second) this.#size++;
  }

  delete(first: string, second: string): void {
    const found = this.#byFirst.get(first);
    if (found instanceof Map) {
      if (!found.delete(second)) return;
      if (found.size === 0) this.#byFirst.delete(first);
    } else if (found !== undefined && this.#secondOf(found) === second) this.#byFirst.delete(first);
    else return;
    this.#size--;
  }

  *values(): Generator<V> {
    for (const found of this.#byFirst.values())
      if (found instanceof Map) yield* found.values();
      else yield found;
  }
}
