/**
 * Values of header fields as they are kept beside a message: unfolded, decoded, bounded. The content is a stranger's:
 * only its first 64 KiB are looked at, and what cannot be decoded stays as written. The reactor has found Message-ID while
 * it read the content, so this is no second pass over the header of most messages.
 */
import type { ContentHandle, HeaderField } from '../mail/message.ts';
import { type Arena, FIELD, FIELD_UNKNOWN, NO_FIELD } from '../native.ts';
import { decodeWords, headerText } from './mime/words.ts';

const HEAD_BYTES = 65_536;
const MAX_MESSAGE_ID = 255;
const MAX_VALUE_BYTES = 1000;
/** Of a value before it is decoded. */
const MAX_RAW_BYTES = 8192;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;

/** The usual form, on one line and in ASCII. */
const PLAIN_ID = /^[ \t]*<([!-;=?-~]{1,255})>/;

/** Without its angle brackets; '' when there is none, or the content cannot be read. */
export function messageIdIn(
  arena: Pick<Arena, 'fieldAt' | 'textAt' | 'head'>,
  content: ContentHandle,
): string {
  const at = arena.fieldAt(content, FIELD.messageId);
  if (at === NO_FIELD) return '';
  if (at !== FIELD_UNKNOWN) {
    const plain = PLAIN_ID.exec(arena.textAt(content, at, at + MAX_MESSAGE_ID));
    if (plain !== null) return plain[1] as string;
  }
  try {
    return messageIdOf(arena.head(content, HEAD_BYTES));
  } catch {
    return '';
  }
}

/** The same for a content at hand. */
export function messageIdOf(content: Buffer): string {
  for (const { name, valueAt } of fieldsOf(content))
    if (name === 'message-id') return messageIdAt(content, valueAt);
  return '';
}

/** The first field of each of these names. @param names in lower case. */
export function fieldsNamed(
  arena: Pick<Arena, 'head'>,
  content: ContentHandle,
  names: ReadonlySet<string>,
): HeaderField[] {
  const found = new Map<string, HeaderField>();
  try {
    const head = arena.head(content, HEAD_BYTES);
    for (const { name, valueAt } of fieldsOf(head))
      if (names.has(name) && !found.has(name))
        found.set(name, { name, value: bounded(unfolded(head, valueAt)) });
  } catch {
    // Whoever needs the octets of the content will say that they cannot be read.
  }
  return [...found.values()];
}

function messageIdAt(content: Buffer, at: number): string {
  const value = unfolded(content, at);
  const open = value.indexOf('<');
  const close = open < 0 ? -1 : value.indexOf('>', open);
  return (close < 0 ? value : value.slice(open + 1, close)).trim().slice(0, MAX_MESSAGE_ID);
}

/** Names (in lower case) of the fields up to the empty line, and where their values begin. */
function* fieldsOf(head: Buffer): Generator<{ name: string; valueAt: number }> {
  for (let at = 0; at < head.length; ) {
    const lf = head.indexOf(LF, at);
    const end = lf < 0 ? head.length : lf;
    if (end === at || (end === at + 1 && head[at] === CR)) return;
    const name = /^([!-9;-~]+)[ \t]*:/.exec(head.toString('latin1', at, Math.min(end, at + 200)));
    if (name !== null) yield { name: (name[1] as string).toLowerCase(), valueAt: at + name[0].length };
    at = end + 1;
  }
}

/** The value that begins at `at`: its lines joined, without white space at its ends. */
function unfolded(content: Buffer, at: number): string {
  let end = at;
  const last = Math.min(content.length, at + MAX_RAW_BYTES);
  for (; end < last; end++)
    if (content[end] === LF && content[end + 1] !== SPACE && content[end + 1] !== TAB) break;
  return headerText(content.subarray(at, end)).text.replace(/\r?\n/g, '').trim();
}

/** Decoded, with no control characters in it. */
function bounded(value: string): string {
  const text = decodeWords(value).replace(/\p{Cc}/gu, ' ');
  const bytes = Buffer.from(text);
  if (bytes.length <= MAX_VALUE_BYTES) return text;
  // A character is not cut in two: octets 10xxxxxx go on with the one before.
  let end = MAX_VALUE_BYTES;
  while (((bytes[end] as number) & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end);
}
