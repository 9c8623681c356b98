/** What travels between threads as one flat array (why: message-wire.ts). */
export type Wire = (string | number | null)[];

/** Takes values off a wire in the order in which they were written. The reader must know their types. */
export class WireReader {
  readonly #wire: Wire;
  #at = 0;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  text(): string {
    return this.#wire[this.#at++] as string;
  }

  number(): number {
    return this.#wire[this.#at++] as number;
  }

  optional<T extends string | number>(): T | null {
    return (this.#wire[this.#at++] as T | null | undefined) ?? null;
  }

  /** Reads a count, and as many numbers. */
  numbers(): number[] {
    const count = this.number();
    const numbers = this.#wire.slice(this.#at, this.#at + count) as number[];
    this.#at += count;
    return numbers;
  }

  /** Reads a count, and calls `read` as many times. */
  list<T>(read: (reader: WireReader) => T): T[] {
    const count = this.number();
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(read(this));
    return items;
  }
}
