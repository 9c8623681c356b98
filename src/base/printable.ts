/**
 * Text of others (addresses, replies, header fields) for a terminal, a log or a report: without controls (C0, C1), which
 * could steer a terminal, and without characters that turn the direction of writing or end a line, which could make it read
 * as something else.
 */
const UNPRINTABLE = /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;
const RUNS = new RegExp(`${UNPRINTABLE.source}+`, 'gu');

/** Those that JSON.stringify leaves as they are; within its strings they can stand escaped. */
const UNESCAPED = /[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;
const EACH_UNESCAPED = new RegExp(UNESCAPED, 'g');

/** @param keep '\n' where lines are kept apart. */
export function printable(text: string, instead = '?', keep = ''): string {
  return text.replace(UNPRINTABLE, (one) => (one === keep ? one : instead));
}

/** Of several lines, for a terminal. */
export const printableLines = (text: string): string => printable(text, '?', '\n');

/** With a space for each run of them: for fields of a report. */
export function onOneLine(text: string): string {
  return text.replace(RUNS, ' ');
}

/** JSON text as people may look at it in a terminal: means the same, and has none of these characters as such. */
export function printableJson(text: string): string {
  if (!UNESCAPED.test(text)) return text;
  return text.replace(EACH_UNESCAPED, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
