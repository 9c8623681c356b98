/** The fields of a header section, and where they stand. The content is a stranger's: bounded, and in one pass. */
import type { ContentHandle } from '../mail/message.ts';
import type { Arena, ByteRange } from '../native.ts';
import { headerText } from './mime/words.ts';

/** A field whose name was asked for. */
export interface FoundField extends ByteRange {
  /** In lower case. */
  name: string;
  /** Its lines joined, without white space at its ends. */
  value: string;
}

/** How much of a content is looked at first; further where the header section does not end within. */
const LOOKS_BYTES = [8192, 65_536, 1_048_576];
/** Longest name that is read. */
const MAX_NAME = 80;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;
const COLON = 0x3a;

/**
 * All fields with these names, in order.
 * @param names in lower case, not longer than 76 characters.
 * @returns null when the header section does not end within the first MiB.
 */
export function fieldsIn(
  arena: Pick<Arena, 'head'>,
  content: ContentHandle,
  names: ReadonlySet<string>,
): FoundField[] | null {
  for (const bytes of LOOKS_BYTES) {
    const head = arena.head(content, bytes);
    const found = fieldsOf(head, names, head.length < bytes);
    if (found !== null) return found;
  }
  return null;
}

/** @param isAll whether `head` is the whole content. @returns null when the header section goes on behind it. */
function fieldsOf(head: Buffer, names: ReadonlySet<string>, isAll: boolean): FoundField[] | null {
  const found: FoundField[] = [];
  for (let at = 0; at < head.length; ) {
    const first = head[at] as number;
    if (first === LF || (first === CR && head[at + 1] === LF)) return found;
    const name = nameAt(head, at);
    const isAsked = names.has(name);
    let end = lineEnd(head, at);
    // A field goes on in the lines that begin with white space.
    while (isAsked && isBlank(head[end])) end = lineEnd(head, end);
    if (isAsked) found.push({ name, from: at, to: end, value: textOf(head, at, end) });
    at = end;
  }
  return isAll ? found : null;
}

function lineEnd(head: Buffer, at: number): number {
  const lf = head.indexOf(LF, at);
  return lf < 0 ? head.length : lf + 1;
}

/**
 * '' where no name stands. Any amount of white space may come before the colon (RFC 5322 §4.5.3); what has none must not have the
 * rest of the header looked at for each of its lines.
 */
function nameAt(head: Buffer, at: number): string {
  const last = Math.min(head.length, at + MAX_NAME);
  let end = at;
  while (end < last && head[end] !== COLON && !isBlank(head[end]) && head[end] !== LF) end++;
  if (end === last) return '';
  let colon = end;
  while (isBlank(head[colon])) colon++;
  return head[colon] === COLON ? head.toString('latin1', at, end).toLowerCase() : '';
}

const isBlank = (octet: number | undefined): boolean => octet === SPACE || octet === TAB;

function textOf(head: Buffer, from: number, to: number): string {
  const at = head.indexOf(COLON, from) + 1;
  return headerText(head.subarray(at, to)).text.replace(/\r?\n/g, '').trim();
}
