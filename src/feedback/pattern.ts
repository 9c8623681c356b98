/**
 * Patterns of rules: regular expressions of RE2 (linear in the text, whatever it is), taken apart at `|`. What stands for
 * a few plain texts, `too (?:fast|often)`, needs no expression at all. The rest has sets of tokens, and every match holds
 * one of each set: a search for all tokens of all rules at once says which few expressions are to be tried.
 */
import { RE2JS, RE2JSException } from 're2js';

/** Plain text shorter than this is in too many replies to choose by. */
const MIN_TOKEN = 3;
/** Beside a set of longer ones. */
const MIN_FURTHER = 2;
/** Texts that one alternative is written out as. */
const MAX_TEXTS = 64;

export interface Pattern {
  /** Any of them in the text is a match. */
  plain: string[];
  expressions: Expression[];
}

export interface Expression {
  /** It is tried where one of each set is in the text, in their order. */
  tokens: TokenSet[];
  compiled: RE2JS;
  source: string;
}

export interface TokenSet {
  texts: string[];
  /** So many characters at most stand between one of the set before and one of this in a match. */
  maxGap: number;
}

/** @returns the pattern, or what is wrong with it. */
export function compilePattern(source: string): Pattern | string {
  const pattern: Pattern = { plain: [], expressions: [] };
  for (const alternative of alternatives(lowered(source))) {
    const texts = writtenOut(itemsOf(alternative));
    if (texts !== null && shortest(texts) >= MIN_TOKEN) {
      pattern.plain.push(...texts);
      continue;
    }
    const compiled = compile(alternative);
    if (typeof compiled === 'string') return compiled;
    const tokens = tokensOf(alternative);
    if (!tokens.some(({ texts: set }) => shortest(set) >= MIN_TOKEN))
      return `"${alternative}" matches texts that have too little in common: at least ${MIN_TOKEN} plain characters in a row`;
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

/** An item with its quantifier, and the texts it stands for; null where they are too many. */
interface Item {
  source: string;
  texts: string[] | null;
  /** Of what it matches. */
  maxLength: number;
}

function itemsOf(alternative: string): Item[] {
  const items: Item[] = [];
  for (let at = 0; at < alternative.length; ) {
    const end = afterItem(alternative, at);
    QUANTIFIER.lastIndex = end;
    const quantifier = QUANTIFIER.exec(alternative)?.[0] ?? '';
    const source = alternative.slice(at, end);
    const texts = textsOf(source);
    const maxLength = longest(source) * timesOf(quantifier);
    if (quantifier === '') items.push({ source, texts, maxLength });
    else
      items.push({ source, texts: quantifier === '?' && texts !== null ? ['', ...texts] : null, maxLength });
    at = end + quantifier.length;
  }
  return items;
}

function textsOf(item: string): string[] | null {
  if (item.length === 1) return SPECIAL.has(item) ? null : [item];
  if (/^\\[^a-zA-Z0-9]$/.test(item)) return [item.slice(1)];
  if (/^\[[a-z0-9 -]{1,6}\]$/.test(item) && !/[a-z0-9]-[a-z0-9]/.test(item)) return [...item.slice(1, -1)];
  if (!item.startsWith('(?:') || !item.endsWith(')')) return null;
  const each = alternatives(item.slice(3, -1)).map((one) => writtenOut(itemsOf(one)));
  return each.includes(null) ? null : (each as string[][]).flat();
}

/** All texts that these items in a row stand for; null where they are too many. */
function writtenOut(items: readonly Item[]): string[] | null {
  let all = [''];
  for (const { texts } of items) {
    if (texts === null || all.length * texts.length > MAX_TEXTS) return null;
    all = all.flatMap((before) => texts.map((text) => before + text));
  }
  return all;
}

/** Sets of texts: every match has one of each, as the rows of items that can be written out say. */
function tokensOf(alternative: string): TokenSet[] {
  const sets: TokenSet[] = [];
  let row: Item[] = [];
  let maxGap = 0;
  const close = (): void => {
    const texts = writtenOut(row);
    if (texts !== null && shortest(texts) >= MIN_FURTHER) {
      sets.push({ texts, maxGap });
      maxGap = 0;
    } else maxGap += lengthOf(row);
    row = [];
  };
  for (const item of itemsOf(alternative)) {
    if (item.texts === null || writtenOut([...row, item]) === null) close();
    if (item.texts !== null) row.push(item);
    else maxGap += item.maxLength;
  }
  close();
  return sets;
}

const lengthOf = (items: readonly Item[]): number => items.reduce((sum, { maxLength }) => sum + maxLength, 0);

/** Of what an item without its quantifier matches, in characters. */
function longest(source: string): number {
  if (!source.startsWith('(')) return source === '^' || source === '$' || /^\\[bBAz]$/.test(source) ? 0 : 1;
  if (!source.startsWith('(?:')) return Number.POSITIVE_INFINITY;
  return Math.max(...alternatives(source.slice(3, -1)).map((one) => lengthOf(itemsOf(one))));
}

/** @param quantifier '' for once. */
function timesOf(quantifier: string): number {
  if (quantifier === '' || quantifier.startsWith('?')) return 1;
  const [, count, comma, last] = /^\{(\d+)(,?)(\d*)/.exec(quantifier) ?? [];
  if (count === undefined || (comma !== '' && last === '')) return Number.POSITIVE_INFINITY;
  return Number(comma === '' ? count : last);
}

const shortest = (texts: readonly string[]): number => Math.min(...texts.map(({ length }) => length));
