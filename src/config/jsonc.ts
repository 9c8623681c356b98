/**
 * Reads JSON with comments and trailing commas, and remembers where every value stands, so that a problem found later can
 * name its line. Nothing else beyond JSON (RFC 8259) is accepted; a key that stands twice is an error.
 */

export interface Place {
  file: string;
  line: number;
  /** From 1. */
  column: number;
}

/** A value, with the place of its key; in an array or at the top, with its own place. */
export type Node =
  | { kind: 'object'; place: Place; entries: Map<string, Node> }
  | { kind: 'array'; place: Place; items: Node[] }
  | { kind: 'scalar'; place: Place; value: string | number | boolean | null };

export class SyntaxProblem extends Error {
  readonly place: Place;

  constructor(place: Place, message: string) {
    super(message);
    this.place = place;
  }
}

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /[A-Za-z_$][A-Za-z0-9_$]*/y;
const BLANK = /(?:[ \t\r\n\uFEFF]|\/\/[^\n]*|\/\*[\s\S]*?\*\/)*/y;
const STRING = /"(?:[^"\\\n\r]|\\[^\n\r])*"/y;

class Parser {
  readonly #text: string;
  readonly #file: string;
  #at = 0;
  #line = 1;
  #lineStart = 0;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
  }

  document(): Node {
    this.#peek();
    const node = this.#value(0, this.#place());
    if (this.#peek() !== '')
      this.#fail(`nothing may follow the closing ${node.kind === 'array' ? ']' : '}'}`);
    return node;
  }

  #place(): Place {
    return { file: this.#file, line: this.#line, column: this.#at - this.#lineStart + 1 };
  }

  #value(depth: number, place: Place): Node {
    if (depth > MAX_DEPTH) this.#fail(`nested deeper than ${MAX_DEPTH} levels`);
    const first = this.#peek();
    if (first === '{') return this.#object(depth, place);
    if (first === '[') return this.#array(depth, place);
    if (first === '"') return { kind: 'scalar', place, value: this.#string() };
    const number = this.#match(NUMBER);
    if (number !== null) return { kind: 'scalar', place, value: Number(number) };
    const start = this.#at;
    const word = this.#match(WORD);
    if (word === 'true' || word === 'false') return { kind: 'scalar', place, value: word === 'true' };
    if (word === 'null') return { kind: 'scalar', place, value: null };
    this.#at = start;
    if (first === '') this.#fail('the file ends where a value should stand');
    if (first === "'") this.#fail('strings stand in double quotes');
    return this.#fail(`${word ?? first} is not a value (is a comma or a quote missing before it?)`);
  }

  #object(depth: number, place: Place): Node {
    const entries = new Map<string, Node>();
    this.#at++;
    while (this.#peek() !== '}') {
      if (this.#peek() !== '"') this.#fail('a key in double quotes, or } is missing here');
      const keyPlace = this.#place();
      const start = this.#at;
      const key = this.#string();
      const earlier = entries.get(key);
      if (earlier !== undefined) {
        this.#at = start;
        this.#fail(`"${key}" stands here a second time (first in line ${earlier.place.line})`);
      }
      if (this.#peek() !== ':') this.#fail(`a colon is missing after "${key}"`);
      this.#at++;
      entries.set(key, this.#value(depth + 1, keyPlace));
      this.#separator('}');
    }
    this.#at++;
    return { kind: 'object', place, entries };
  }

  #array(depth: number, place: Place): Node {
    const items: Node[] = [];
    this.#at++;
    while (this.#peek() !== ']') {
      items.push(this.#value(depth + 1, this.#place()));
      this.#separator(']');
    }
    this.#at++;
    return { kind: 'array', place, items };
  }

  #separator(close: string): void {
    const next = this.#peek();
    if (next === ',') this.#at++;
    else if (next !== close) this.#fail(`a comma or ${close} is missing before this`);
  }

  #string(): string {
    const raw = this.#match(STRING);
    if (raw === null) return this.#fail('this string has no end on its line');
    try {
      return JSON.parse(raw.replace(/\t/g, '\\t')) as string;
    } catch {
      this.#at -= raw.length;
      return this.#fail('this string holds an escape that JSON does not know');
    }
  }

  /** Skips blanks and comments. Returns the next character, '' at the end. */
  #peek(): string {
    BLANK.lastIndex = this.#at;
    const end = this.#at + (BLANK.exec(this.#text)?.[0].length ?? 0);
    for (
      let i = this.#text.indexOf('\n', this.#at);
      i !== -1 && i < end;
      i = this.#text.indexOf('\n', i + 1)
    ) {
      this.#line++;
      this.#lineStart = i + 1;
    }
    this.#at = end;
    if (this.#text.startsWith('/*', end)) this.#fail('this comment has no end');
    return this.#text[end] ?? '';
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) return null;
    this.#at += found.length;
    return found;
  }

  #fail(message: string): never {
    throw new SyntaxProblem(this.#place(), message);
  }
}

/** @throws SyntaxProblem at the first place that is not JSON with comments. */
export function parseJsonc(text: string, file: string): Node {
  return new Parser(text, file).document();
}
