/**
 * Text of others (addresses, replies, header fields) for a terminal, a log or a report: without controls (C0, C1), which
 * could steer a terminal, and without characters that turn the direction of writing or end a line, which could make it read
 * as something else.
 */
const UNPRINTABLE = /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;
const RUNS = new RegExp(`${UNPRINTABLE.source}+`, 'gu');
/** Of these, what JSON lets stand in a string. */
const RAW_IN_JSON = /[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;
const ALL_RAW_IN_JSON = new RegExp(RAW_IN_JSON.source, 'g');

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

/**
 * JSON that means the same, with these characters escaped: safe on a terminal, and whoever reads it as JSON gets the very
 * text. What of them stands in JSON stands in its strings.
 */
export function printableJson(json: string): string {
  return RAW_IN_JSON.test(json)
    ? json.replace(ALL_RAW_IN_JSON, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)
    : json;
}
