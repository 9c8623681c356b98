/**
 * Patterns of rules: regular expressions of RE2 (linear in the text, whatever it is), taken apart at `|`. What is plain
 * text needs no expression at all, and of the rest each alternative has tokens of which every match holds one: a search
 * for all tokens of all rules at once says which few expressions are to be tried.
 */
import { RE2JS, RE2JSException } from 're2js';

/** Plain text shorter than this is in too many replies to choose by. */
const MIN_TOKEN = 3;

export interface Pattern {
  /** Any of them in the text is a match. */
  plain: string[];
  expressions: Expression[];
}

export interface Expression {
  /** It is tried where one of them is in the text. */
  tokens: string[];
  compiled: RE2JS;
  source: string;
}

/** @returns the pattern, or what is wrong with it. */
export function compilePattern(source: string): Pattern | string {
  const pattern: Pattern = { plain: [], expressions: [] };
  for (const alternative of alternatives(lowered(source))) {
    const plain = plainText(alternative);
    if (plain !== null) {
      if (plain.length < MIN_TOKEN) return `"${alternative}" is too short: at least ${MIN_TOKEN} characters`;
      pattern.plain.push(plain);
      continue;
    }
    const compiled = compile(alternative);
    if (typeof compiled === 'string') return compiled;
    const tokens = tokensOf(alternative);
    if (tokens === null)
      return `"${alternative}" matches texts that have nothing in common: ${MIN_TOKEN} plain characters in a row are needed`;
    pattern.expressions.push({ tokens, compiled, source: alternative });
  }
  return pattern;
}

function compile(source: string): RE2JS | string {
  try {
    return RE2JS.compile(source);
  } catch (error) {
    if (error instanceof RE2JSException) return `not a pattern that takes linear time: ${error.message}`;
    throw error;
  }
}

/** Texts are compared in small letters. Classes such as \S keep theirs. */
const lowered = (source: string): string =>
  source.replace(/\\.|[A-Z]/g, (one) => (one.length > 1 ? one : one.toLowerCase()));

/** What stands between the `|` outside of brackets. */
function alternatives(source: string): string[] {
  const found: string[] = [];
  let from = 0;
  for (let at = 0; at < source.length; at = afterItem(source, at))
    if (source[at] === '|') {
      found.push(source.slice(from, at));
      from = at + 1;
    }
  return [...found, source.slice(from)];
}

/** Where the item at `at` ends: a group, a class, an escaped character, or one character. */
function afterItem(source: string, at: number): number {
  const first = source[at];
  if (first === '\\') return at + 2;
  if (first === '[') {
    let end = at + 1;
    if (source[end] === '^') end++;
    if (source[end] === ']') end++;
    while (end < source.length && source[end] !== ']') end += source[end] === '\\' ? 2 : 1;
    return end + 1;
  }
  if (first !== '(') return at + 1;
  let end = at + 1;
  while (end < source.length && source[end] !== ')') end = afterItem(source, end);
  return end + 1;
}

const QUANTIFIER = /(?:[?*+]|\{\d+(?:,\d*)?\})\??/y;
const SPECIAL = new Set('.^$|()[]?*+');

/** The text that is the only match; null where there are others. */
function plainText(alternative: string): string | null {
  const items = itemsOf(alternative);
  return items.every(({ plain }) => plain !== null) ? items.map(({ plain }) => plain).join('') : null;
}

interface Item {
  source: string;
  /** The character it stands for; null where it stands for more than one text. */
  plain: string | null;
}

/** What an alternative consists of, each with its quantifier. */
function itemsOf(alternative: string): Item[] {
  const items: Item[] = [];
  for (let at = 0; at < alternative.length; ) {
    const end = afterItem(alternative, at);
    QUANTIFIER.lastIndex = end;
    const quantifier = QUANTIFIER.exec(alternative)?.[0] ?? '';
    const source = alternative.slice(at, end);
    const isPlain = source.length === 1 ? !SPECIAL.has(source) : /^\\[^a-zA-Z0-9]$/.test(source);
    const plain = isPlain && quantifier === '' ? (source.at(-1) as string) : null;
    items.push({ source: source + quantifier, plain });
    at = end + quantifier.length;
  }
  return items;
}

/** Texts of which every match has one, as long ones as there are; null where there are none. */
function tokensOf(alternative: string): string[] | null {
  let best: string[] | null = null;
  let run = '';
  const offer = (tokens: string[] | null): void => {
    if (tokens !== null && shortest(tokens) >= MIN_TOKEN && shortest(tokens) > shortest(best ?? []))
      best = tokens;
  };
  for (const { source, plain } of itemsOf(alternative)) {
    if (plain !== null) run += plain;
    else {
      offer([run]);
      run = '';
      if (source.startsWith('(?:') && source.endsWith(')')) offer(ofEach(alternatives(source.slice(3, -1))));
    }
  }
  offer([run]);
  return best;
}

function ofEach(all: readonly string[]): string[] | null {
  const tokens = all.map(tokensOf);
  return tokens.includes(null) ? null : (tokens as string[][]).flat();
}

const shortest = (tokens: readonly string[]): number =>
  tokens.length === 0 ? 0 : Math.min(...tokens.map(({ length }) => length));
