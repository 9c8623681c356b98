/**
 * Finds the attachments of a message by its MIME structure alone (RFC 2045, 2046): boundaries and header sections.
 * Never decodes a body, never fails: broken structure gives fewer attachments. The content is a stranger's, so everything
 * has a limit, also what turns out to be nothing: a scan takes time linear in the octets, and little per octet. What lies
 * beyond a limit is not listed.
 */
import type { Attachment } from '../../mail/message.ts';
import { decodeWords, headerText, parameter, parseParameters } from './words.ts';

export interface MimeLimits {
  maxDepth: number;
  maxAttachments: number;
  maxParts: number;
  /** Of one header section. */
  maxHeaderBytes: number;
  /** Of all header sections together. */
  maxHeadersBytes: number;
  /** Lines that begin like a boundary and are none. */
  maxOtherLines: number;
  /** Of the names and types of all attachments together. */
  maxTextLength: number;
}

export const MIME_LIMITS: MimeLimits = {
  maxDepth: 10,
  maxAttachments: 200,
  maxParts: 1000,
  maxHeaderBytes: 65_536,
  maxHeadersBytes: 1_048_576,
  maxOtherLines: 50_000,
  maxTextLength: 16_384,
};

const MAX_NAME = 255;
/** Of a name before it is decoded. */
const MAX_RAW_NAME = 2048;
const MAX_TYPE = 127;
/** RFC 2046 §5.1.1 says 70; mailers exceed it. */
const MAX_BOUNDARY = 200;
/** White space after a boundary. */
const MAX_PADDING = 800;
const LF = 0x0a;
const CR = 0x0d;
const DASH = 0x2d;
const NEWLINE_DASHES = Buffer.from('\n--');
const NEWLINE_TWICE = Buffer.from('\n\n');
const NEWLINE_EMPTY_LINE = Buffer.from('\n\r\n');

interface Part {
  type: string;
  boundary: Buffer | null;
  name: string | null;
  attached: boolean;
  /** First byte of the body. */
  offset: number;
}

/** What is left of the limits during a scan. */
interface Budget {
  headerBytes: number;
  otherLines: number;
  textLength: number;
}

/**
 * Whether a scan can find anything: the header section declares multipart/* or another type than text.
 * @param head first bytes of the content.
 */
export function mayHaveAttachments(head: Buffer): boolean {
  const end = bodyOffset(head, 0);
  const header = head.toString('latin1', 0, end < 0 ? head.length : end);
  const found = /(?:^|\n)content-type[ \t]*:[ \t\r\n]*([^\s;]*)/i.exec(header);
  return found !== null && found[1] !== '' && !/^text(?:\/|$)/i.test(found[1] as string);
}

/** Offset of the body after the empty line that ends the header section at `from`; -1 when it does not end. */
function bodyOffset(content: Buffer, from: number): number {
  if (content[from] === LF) return from + 1;
  if (content[from] === CR && content[from + 1] === LF) return from + 2;
  const crlf = content.indexOf(NEWLINE_EMPTY_LINE, from);
  const bare = (crlf < 0 ? content : content.subarray(0, crlf + 1)).indexOf(NEWLINE_TWICE, from);
  if (bare >= 0) return bare + 2;
  return crlf < 0 ? -1 : crlf + 3;
}

function fieldsOf(header: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of header.replace(/\r?\n[ \t]+/g, ' ').split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    if (name.startsWith('content-') && !fields.has(name)) fields.set(name, line.slice(colon + 1).trim());
  }
  return fields;
}

export class MimeScanner {
  readonly #limits: MimeLimits;

  constructor(limits: MimeLimits = MIME_LIMITS) {
    this.#limits = limits;
  }

  /** @param content the whole content of a message, or its beginning. */
  attachments(content: Buffer): Attachment[] {
    const found: Attachment[] = [];
    const limits = this.#limits;
    const budget: Budget = {
      headerBytes: limits.maxHeadersBytes,
      otherLines: limits.maxOtherLines,
      textLength: limits.maxTextLength,
    };
    const top = this.#part(content, 0, budget);
    if (top === null) return found;
    if (top.boundary === null) {
      this.#add(found, top, content.length, budget);
      return found;
    }
    const boundaries = [top.boundary];
    let open: Part | null = null;
    let parts = 0;
    // The body may begin with a boundary: search from the newline before it.
    let at = content.indexOf(NEWLINE_DASHES, Math.max(0, top.offset - 1));
    while (at >= 0 && parts < limits.maxParts && found.length < limits.maxAttachments) {
      const hit = delimiter(content, at + 3, boundaries);
      if (hit === null) {
        if (--budget.otherLines < 0) return found;
        at = content.indexOf(NEWLINE_DASHES, at + 3);
        continue;
      }
      if (open !== null) this.#add(found, open, content[at - 1] === CR ? at - 1 : at, budget);
      open = null;
      boundaries.length = hit.closes ? hit.level : hit.level + 1;
      if (boundaries.length === 0) return found;
      let from = hit.end;
      if (!hit.closes) {
        parts++;
        const part = this.#part(content, hit.end, budget);
        if (budget.headerBytes <= 0) return found;
        if (part !== null) {
          from = part.offset;
          if (part.boundary !== null && boundaries.length < limits.maxDepth) boundaries.push(part.boundary);
          else if (part.boundary === null) open = part;
        }
      }
      at = content.indexOf(NEWLINE_DASHES, Math.max(at + 1, from - 1));
    }
    if (open !== null && at < 0) this.#add(found, open, content.length, budget);
    return found;
  }

  /** The header section at `from`; null when it does not end within the limit. */
  #part(content: Buffer, from: number, budget: Budget): Part | null {
    const window = content.subarray(from, from + this.#limits.maxHeaderBytes);
    const end = bodyOffset(window, 0);
    budget.headerBytes -= end < 0 ? window.length : end;
    if (end < 0) return null;
    const { text, encoding } = headerText(window.subarray(0, end));
    const fields = fieldsOf(text);
    const { value: type, parameters } = parseParameters(fields.get('content-type') ?? '');
    const disposition = parseParameters(fields.get('content-disposition') ?? '');
    const named = type.startsWith('multipart/') ? (parameters.get('boundary') ?? '') : '';
    const boundary = named.length > 0 && named.length <= MAX_BOUNDARY ? Buffer.from(named, encoding) : null;
    return {
      type: type === '' ? 'text/plain' : type.slice(0, MAX_TYPE),
      boundary,
      name: parameter(disposition.parameters, 'filename') ?? parameter(parameters, 'name'),
      attached: disposition.value === 'attachment',
      offset: from + end,
    };
  }

  #add(found: Attachment[], part: Part, end: number, budget: Budget): void {
    const isBody = part.type.startsWith('text/') || part.type.startsWith('multipart/');
    if (isBody && !part.attached && part.name === null) return;
    const name = cleanName(part.name ?? '');
    budget.textLength -= name.length + part.type.length;
    if (budget.textLength < 0) return;
    found.push({ name, type: part.type, sizeBytes: Math.max(0, end - part.offset), offset: part.offset });
  }
}

/** Names come from strangers: no control characters, no line ends, bounded. */
function cleanName(name: string): string {
  return decodeWords(name.slice(0, MAX_RAW_NAME))
    .replace(/\p{Cc}/gu, '')
    .slice(0, MAX_NAME);
}

/** The boundary line whose dashes end at `start`, innermost first; null when it is none of ours. */
function delimiter(
  content: Buffer,
  start: number,
  boundaries: Buffer[],
): { level: number; closes: boolean; end: number } | null {
  for (let level = boundaries.length - 1; level >= 0; level--) {
    const boundary = boundaries[level] as Buffer;
    if (!standsAt(content, start, boundary)) continue;
    const after = start + boundary.length;
    const end = lineEnd(content, after);
    if (end >= 0) return { level, closes: false, end };
    if (content[after] !== DASH || content[after + 1] !== DASH) continue;
    const closing = lineEnd(content, after + 2);
    if (closing >= 0) return { level, closes: true, end: closing };
  }
  return null;
}

function standsAt(content: Buffer, at: number, bytes: Buffer): boolean {
  for (let i = 0; i < bytes.length; i++) if (content[at + i] !== bytes[i]) return false;
  return true;
}

/** Where the next line begins, when nothing but white space ends this one; else -1. */
function lineEnd(content: Buffer, from: number): number {
  const last = Math.min(content.length, from + MAX_PADDING);
  let at = from;
  for (; at < last; at++) {
    const octet = content[at] as number;
    if (octet === LF) return at + 1;
    if (octet !== 0x20 && (octet < 0x09 || octet > CR)) return -1;
  }
  return at === content.length ? at : -1;
}
