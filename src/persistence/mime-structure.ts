/**
 * Finds the attachments of a message by its MIME structure alone (RFC 2045, 2046): boundaries and header sections.
 * Never decodes a body, never fails: broken structure gives fewer attachments. Depth, parts and bytes are bounded,
 * because the content is a stranger's.
 */
import { decodeWords, headerText, parameter, parseParameters } from './mime-words.ts';

export interface FoundAttachment {
  name: string;
  type: string;
  /** Of its body as it stands in the content, transfer encoding included. */
  sizeBytes: number;
  /** First byte of its body within the content. */
  offset: number;
}

export interface MimeLimits {
  maxDepth: number;
  maxAttachments: number;
  maxParts: number;
  maxHeaderBytes: number;
}

export const MIME_LIMITS: MimeLimits = {
  maxDepth: 10,
  maxAttachments: 200,
  maxParts: 1000,
  maxHeaderBytes: 65_536,
};

const MAX_NAME = 255;
const MAX_TYPE = 127;
/** RFC 2046 §5.1.1 says 70; mailers exceed it. */
const MAX_BOUNDARY = 200;
const LF = 0x0a;
const CR = 0x0d;
const NEWLINE_DASHES = Buffer.from('\n--');

interface Part {
  type: string;
  boundary: string | null;
  name: string | null;
  attached: boolean;
  /** First byte of the body. */
  offset: number;
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
  for (let at = content.indexOf(LF, from); at >= 0; at = content.indexOf(LF, at + 1)) {
    if (content[at + 1] === LF) return at + 2;
    if (content[at + 1] === CR && content[at + 2] === LF) return at + 3;
  }
  return -1;
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

  /** @param content the whole content of a message. */
  attachments(content: Buffer): FoundAttachment[] {
    const found: FoundAttachment[] = [];
    const top = this.#part(content, 0);
    if (top === null) return found;
    if (top.boundary === null) {
      this.#add(found, top, content.length);
      return found;
    }
    const boundaries = [top.boundary];
    let open: Part | null = null;
    let parts = 0;
    // The body may begin with a boundary: search from the newline before it.
    let at = content.indexOf(NEWLINE_DASHES, Math.max(0, top.offset - 1));
    while (at >= 0 && parts < this.#limits.maxParts && found.length < this.#limits.maxAttachments) {
      const hit = delimiter(content, at + 1, boundaries);
      if (hit === null) {
        at = content.indexOf(NEWLINE_DASHES, at + 3);
        continue;
      }
      if (open !== null) this.#add(found, open, content[at - 1] === CR ? at - 1 : at);
      open = null;
      boundaries.length = hit.closes ? hit.level : hit.level + 1;
      if (boundaries.length === 0) return found;
      let from = hit.end;
      if (!hit.closes) {
        parts++;
        const part = this.#part(content, hit.end);
        if (part !== null) {
          from = part.offset;
          if (part.boundary !== null && boundaries.length < this.#limits.maxDepth)
            boundaries.push(part.boundary);
          else if (part.boundary === null) open = part;
        }
      }
      at = content.indexOf(NEWLINE_DASHES, Math.max(at + 1, from - 1));
    }
    if (open !== null && at < 0) this.#add(found, open, content.length);
    return found;
  }

  /** The header section at `from`; null when it does not end within the limit. */
  #part(content: Buffer, from: number): Part | null {
    const window = content.subarray(from, from + this.#limits.maxHeaderBytes);
    const end = bodyOffset(window, 0);
    if (end < 0) return null;
    const fields = fieldsOf(headerText(window.subarray(0, end)));
    const { value: type, parameters } = parseParameters(fields.get('content-type') ?? '');
    const disposition = parseParameters(fields.get('content-disposition') ?? '');
    const boundary = type.startsWith('multipart/') ? (parameters.get('boundary') ?? null) : null;
    return {
      type: type === '' ? 'text/plain' : type.slice(0, MAX_TYPE),
      boundary: boundary !== null && boundary.length > 0 && boundary.length <= MAX_BOUNDARY ? boundary : null,
      name: parameter(disposition.parameters, 'filename') ?? parameter(parameters, 'name'),
      attached: disposition.value === 'attachment',
      offset: from + end,
    };
  }

  #add(found: FoundAttachment[], part: Part, end: number): void {
    const isBody = part.type.startsWith('text/') || part.type.startsWith('multipart/');
    if (isBody && !part.attached && part.name === null) return;
    const name = cleanName(part.name ?? '');
    found.push({ name, type: part.type, sizeBytes: Math.max(0, end - part.offset), offset: part.offset });
  }
}

/** Names come from strangers: no control characters, no line ends, bounded. */
function cleanName(name: string): string {
  return decodeWords(name)
    .replace(/\p{Cc}/gu, '')
    .slice(0, MAX_NAME);
}

/** The boundary line at `start` ("--…"), innermost first; null when it is none of ours. */
function delimiter(
  content: Buffer,
  start: number,
  boundaries: string[],
): { level: number; closes: boolean; end: number } | null {
  let lineEnd = content.indexOf(LF, start);
  if (lineEnd < 0) lineEnd = content.length;
  if (lineEnd - start > MAX_BOUNDARY * 4) return null;
  const line = headerText(content.subarray(start + 2, lineEnd)).trimEnd();
  for (let level = boundaries.length - 1; level >= 0; level--) {
    const boundary = boundaries[level] as string;
    if (line === boundary) return { level, closes: false, end: Math.min(content.length, lineEnd + 1) };
    if (line === `${boundary}--`) return { level, closes: true, end: Math.min(content.length, lineEnd + 1) };
  }
  return null;
}
