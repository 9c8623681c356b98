/**
 * Texts of replies made comparable. `squashed` is what patterns are matched against and what the cache goes by: small
 * letters, single blanks, a blank before and behind, {email}, {ip} and {id} for what differs from message to message.
 * `normalised` goes further and is for counting: {host}, {time} and {n} too, so that one condition is one text.
 */
import { isIP } from 'node:net';

/** As much of a reply as the relay keeps (delivery/outcome.ts). */
export const MAX_TEXT = 1000;

const BLANK = 0x20;
const NO_BREAK = 0xa0;
/** Letters and digits in one word from here on are an id, not a token such as [TSS04] or AUP#I-1490. */
const MIN_ID = 14;
const MIN_ID_DIGITS = 4;

export function squashed(text: string): string {
  const lower = (text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text).toLowerCase();
  let out = ' ';
  /** Where what is not in `out` yet begins: words as they are, a blank between them. */
  let kept = 0;
  let from = -1;
  let digits = 0;
  let signs = 0;
  let hasAt = false;
  for (let i = 0; i <= lower.length; i++) {
    const c = i < lower.length ? lower.charCodeAt(i) : BLANK;
    if (c > BLANK && c !== NO_BREAK) {
      if (from < 0) {
        from = i;
        digits = signs = 0;
        hasAt = false;
      }
      if (c >= 0x30 && c <= 0x39) digits++;
      else if (c === 0x40) hasAt = true;
      else if (c === 0x2e || c === 0x3a) signs++;
      continue;
    }
    if (from < 0) {
      // More than one blank, or one that is none: what stands before is taken over.
      if (i > kept) out += lower.slice(kept, i);
      kept = i + 1;
      continue;
    }
    if (hasAt || digits >= MIN_ID_DIGITS || signs > 1) {
      out += `${lower.slice(kept, from)}${told(lower.slice(from, i), hasAt, digits, signs)} `;
      kept = i + 1;
    } else if (c !== BLANK || i === lower.length) {
      out += `${lower.slice(kept, i)} `;
      kept = i + 1;
    }
    from = -1;
  }
  return lower.includes('’') ? out.replaceAll('’', "'") : out;
}

const OPENING = '([<{"\'=';
const CLOSING = ')]>}"\',;:.!?';
const IN_BRACKETS = /\[([0-9a-f:.]+)\]/;

/** A word that may name an address or a message. */
function told(word: string, hasAt: boolean, digits: number, signs: number): string {
  if (hasAt && !word.includes('://')) return '{email}';
  const bare = withoutEdges(word);
  if (signs > 1 && isIP(bare) !== 0) return word.replace(bare, '{ip}');
  const within = signs > 1 ? IN_BRACKETS.exec(word)?.[1] : undefined;
  if (within !== undefined && isIP(within) !== 0) return word.replace(within, '{ip}');
  const isId =
    digits >= MIN_ID_DIGITS && bare.length >= MIN_ID && !bare.includes('://') && !bare.includes('/');
  return isId && !TOKEN.test(bare) ? word.replace(bare, '{id}') : word;
}

/** The word without the brackets and signs around it. */
function withoutEdges(word: string): string {
  let from = 0;
  let to = word.length;
  while (from < to && OPENING.includes(word[from] as string)) from++;
  while (to > from && CLOSING.includes(word[to - 1] as string)) to--;
  return word.slice(from, to);
}

/** Words of small letters with a number at the end, which are names of conditions. */
const TOKEN = /^[a-z]+(?:[-_#:.][a-z]+)*[-_#:.]?\d{1,6}$/;

const TIME = /\b\d{1,2}:\d\d(?::\d\d)?\b|\b\d{4}-\d\d-\d\d(?:t[\d:.]+z?)?\b/g;
const HOST = /\b(?:https?:\/\/\S+|(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b(?:\/\S*)?)/g;
const NUMBER = /\b\d+\b/g;
const MIXED = /\b(?=[a-z]*\d)[a-z0-9]{8,}\b/g;

export function normalised(text: string): string {
  return squashed(text)
    .trim()
    .replace(TIME, '{time}')
    .replace(HOST, '{host}')
    .replace(MIXED, '{id}')
    .replace(NUMBER, '{n}');
}
