/**
 * Text of others (addresses, replies, header fields) for a terminal, a log or a report: without controls (C0, C1), which
 * could steer a terminal, and without characters that turn the direction of writing or end a line, which could make it read
 * as something else.
 */
const UNPRINTABLE = /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/** @param keep '\n' where lines are kept apart. */
export function printable(text: string, instead = '?', keep = ''): string {
  return text.replace(UNPRINTABLE, (one) => (one === keep ? one : instead));
}
