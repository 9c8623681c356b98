/**
 * Text from others (addresses, replies, header fields) made safe for a terminal, a log or a report: without control
 * characters (C0, C1), which could steer a terminal, and without characters that end a line or turn the direction of
 * writing, which could make it read as something else.
 */
const UNPRINTABLE = /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;
const RUNS = new RegExp(`${UNPRINTABLE.source}+`, 'gu');

/** Those of them that JSON.stringify does not escape; in its strings they can be written escaped. */
const UNESCAPED = /[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;
const EACH_UNESCAPED = new RegExp(UNESCAPED, 'g');

/** @param keep '\n' to keep line ends. */
export function printable(text: string, instead = '?', keep = ''): string {
  return text.replace(UNPRINTABLE, (one) => (one === keep ? one : instead));
}

/** The same for several lines, whose ends are kept. */
export const printableLines = (text: string): string => printable(text, '?', '\n');

/** The same with a space for each run of such characters: for fields of a report. */
export function onOneLine(text: string): string {
  return text.replace(RUNS, ' ');
}

/** JSON text with the same meaning in which none of these characters stands unescaped, to be shown on a terminal. */
export function printableJson(text: string): string {
  if (!UNESCAPED.test(text)) return text;
  return text.replace(EACH_UNESCAPED, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
