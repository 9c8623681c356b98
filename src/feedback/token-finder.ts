/**
 * Finds all of many tokens in a text in one pass (Aho and Corasick, 1975). Built once; takes time linear in the text,
 * whatever the tokens are.
 */
export class TokenFinder {
  /** The column of each ASCII character in a row of `#next`; 0 for those that are in no token. */
  readonly #columns = new Uint8Array(128);
  readonly #width: number;
  /** The state after each character, a row for each state; the first one is where nothing has begun. */
  #next: Uint16Array | Uint32Array;
  /** Numbers of the tokens that end where a state is reached. */
  #ends: (readonly number[])[] = [[]];
  /** Whether any does. */
  #hasEnds = new Uint8Array(0);

  /** @param tokens of ASCII characters, none of them empty. */
  constructor(tokens: readonly string[]) {
    let width = 1;
    for (const c of new Set(tokens.join(''))) this.#columns[c.charCodeAt(0)] = width++;
    this.#width = width;
    const states = tokens.reduce((sum, { length }) => sum + length, 1);
    this.#next = states <= 65_536 ? new Uint16Array(states * width) : new Uint32Array(states * width);
    for (const [number, token] of tokens.entries()) this.#insert(token, number);
    this.#inOrder(this.#link());
    this.#hasEnds = Uint8Array.from(this.#ends, ({ length }) => (length > 0 ? 1 : 0));
  }

  /** Calls `found` with the number of each token in the text, as often as it stands there. */
  find(text: string, found: (token: number) => void): void {
    const columns = this.#columns;
    const next = this.#next;
    const width = this.#width;
    const hasEnds = this.#hasEnds;
    let state = 0;
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i);
      state = c < 128 ? (next[state * width + (columns[c] as number)] as number) : 0;
      if (hasEnds[state] === 0) continue;
      const ends = this.#ends[state] as readonly number[];
      for (let k = 0; k < ends.length; k++) found(ends[k] as number);
    }
  }

  #insert(token: string, number: number): void {
    let state = 0;
    for (let i = 0; i < token.length; i++) {
      const at = state * this.#width + (this.#columns[token.charCodeAt(i)] as number);
      if (this.#next[at] === 0) this.#next[at] = this.#ends.push([]) - 1;
      state = this.#next[at] as number;
    }
    this.#ends[state] = [...(this.#ends[state] as number[]), number];
  }

  /**
   * Where no token goes on, the longest end of what was read that begins one does.
   * @returns the states, nearer ones first.
   */
  #link(): number[] {
    const fallback = new Int32Array(this.#ends.length);
    const queue = [0];
    for (const state of queue)
      for (let column = 1; column < this.#width; column++) {
        const at = state * this.#width + column;
        const shorter =
          state === 0 ? 0 : (this.#next[(fallback[state] as number) * this.#width + column] as number);
        const child = this.#next[at] as number;
        if (child === 0) {
          this.#next[at] = shorter;
          continue;
        }
        fallback[child] = shorter;
        this.#ends[child] = [...(this.#ends[child] as number[]), ...(this.#ends[shorter] as number[])];
        queue.push(child);
      }
    return queue;
  }

  /** Numbers the states anew, nearer ones first: most texts never leave those, whose rows then lie together. */
  #inOrder(states: readonly number[]): void {
    const width = this.#width;
    const numbers = new Uint32Array(states.length);
    for (const [number, state] of states.entries()) numbers[state] = number;
    const before = this.#next;
    this.#next = before.slice(0, states.length * width);
    for (const [number, state] of states.entries())
      for (let column = 0; column < width; column++)
        this.#next[number * width + column] = numbers[before[state * width + column] as number] as number;
    this.#ends = states.map((state) => this.#ends[state] as readonly number[]);
  }
}
