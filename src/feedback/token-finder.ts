/**
 * Finds all of many tokens in a text in one pass (Aho and Corasick, 1975). Built once; takes time linear in the text,
 * whatever the tokens are.
 */
export class TokenFinder {
  /** The column of each octet in a row of `#next`; 0 for those that are in no token, which leads back to the beginning. */
  readonly #columns = new Uint8Array(256);
  readonly #width: number;
  /** The state after each character, a row for each state; the first one is where nothing has begun. */
  #next: Uint16Array | Uint32Array;
  /** Numbers of the tokens that end where a state is reached, as long as it is built. */
  #ends: (readonly number[])[] = [[]];
  /** States from here on have ends: from and to these places of `#ended`. */
  #firstEnd = 0;
  #endsFrom = new Uint32Array(0);
  #ended = new Uint32Array(0);
  readonly #octets: Buffer;
  /** What the last search found: tokens, and the octets (UTF-8) that they end with. */
  readonly tokens: Uint32Array;
  readonly places: Uint32Array;
  /** Octets of the last text. */
  count = 0;

  /** @param tokens of ASCII characters, none of them empty. @param maxLength of texts, in characters. */
  constructor(tokens: readonly string[], maxLength: number) {
    let width = 1;
    for (const c of new Set(tokens.join(''))) this.#columns[c.charCodeAt(0)] = width++;
    this.#width = width;
    const states = tokens.reduce((sum, { length }) => sum + length, 1);
    this.#next = states <= 65_536 ? new Uint16Array(states * width) : new Uint32Array(states * width);
    for (const [number, token] of tokens.entries()) this.#insert(token, number);
    this.#inOrder(this.#link());
    this.#octets = Buffer.allocUnsafe(3 * maxLength);
    const most = maxLength * Math.max(0, ...this.#ends.map(({ length }) => length));
    this.tokens = new Uint32Array(most);
    this.places = new Uint32Array(most);
    this.#ends = [];
  }

  /** Puts each token in the text, as often as it stands there, into `tokens` and `places`. @returns how many. */
  find(text: string): number {
    const octets = this.#octets;
    const count = octets.write(text);
    const columns = this.#columns;
    const next = this.#next;
    const width = this.#width;
    const firstEnd = this.#firstEnd;
    const { tokens, places } = this;
    this.count = count;
    let found = 0;
    let state = 0;
    for (let i = 0; i < count; i++) {
      state = next[state * width + (columns[octets[i] as number] as number)] as number;
      if (state < firstEnd) continue;
      const to = this.#endsFrom[state - firstEnd + 1] as number;
      for (let k = this.#endsFrom[state - firstEnd] as number; k < to; k++) {
        tokens[found] = this.#ended[k] as number;
        places[found++] = i;
      }
    }
    return found;
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

  /**
   * Numbers the states anew, nearer ones first: most texts never leave those, whose rows then lie together. Those with ends come
   * behind the others, so that a number says which it is.
   */
  #inOrder(linked: readonly number[]): void {
    const hasEnds = (state: number): boolean => (this.#ends[state] as readonly number[]).length > 0;
    const states = [...linked.filter((state) => !hasEnds(state)), ...linked.filter(hasEnds)];
    this.#firstEnd = states.findIndex(hasEnds);
    if (this.#firstEnd < 0) this.#firstEnd = states.length;
    const width = this.#width;
    const numbers = new Uint32Array(states.length);
    for (const [number, state] of states.entries()) numbers[state] = number;
    const before = this.#next;
    this.#next = before.slice(0, states.length * width);
    for (const [number, state] of states.entries())
      for (let column = 0; column < width; column++)
        this.#next[number * width + column] = numbers[before[state * width + column] as number] as number;
    this.#ends = states.map((state) => this.#ends[state] as readonly number[]);
    const ending = this.#ends.slice(this.#firstEnd);
    this.#endsFrom = new Uint32Array(ending.length + 1);
    for (const [i, { length }] of ending.entries())
      this.#endsFrom[i + 1] = (this.#endsFrom[i] as number) + length;
    this.#ended = Uint32Array.from(ending.flat());
  }
}
