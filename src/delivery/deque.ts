/** A first-in first-out queue that also takes back at the front; constant time each, no holes kept. */
export class Deque<T> {
  #front: T[] = [];
  #back: T[] = [];
  #head = 0;

  get length(): number {
    return this.#front.length + this.#back.length - this.#head;
  }

  /** The item that `shift` would take. */
  get first(): T | undefined {
    return this.#front.at(-1) ?? this.#back[this.#head];
  }

  push(item: T): void {
    this.#back.push(item);
  }

  /** Puts an item before all others. */
  unshift(item: T): void {
    this.#front.push(item);
  }

  shift(): T | undefined {
    const returned = this.#front.pop();
    if (returned !== undefined) return returned;
    if (this.#head === this.#back.length) return undefined;
    const item = this.#back[this.#head++];
    if (this.#head === this.#back.length) {
      this.#back = [];
      this.#head = 0;
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#back.length) {
      this.#back = this.#back.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Takes out everything, in order. */
  clear(): T[] {
    const all = [...this.#front.reverse(), ...this.#back.slice(this.#head)];
    this.#front = [];
    this.#back = [];
    this.#head = 0;
    return all;
  }
}
