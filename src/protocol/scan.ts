/**
 * Reading and writing the bytes of SMTP in plain TypeScript: lines, dots, the end of data. The twin of
 * native/line_scan, native/content_scan and native/content_send, simple where C++ is fast, so that one test can run both
 * on the same input. It never decides about mail; the rules and their reasons are in native/content_scan.h.
 */
import { CONTENT_FLAG, LINE_FLAG, NO_FIELD } from '../native.ts';

const CR = 13;
const LF = 10;
const DOT = 46;
const COLON = 58;
const OUR_PREFIX = 'x-protorelay-';

export interface ScannedLine {
  /** Bytes of the line without its end, cut to the limit. */
  length: number;
  /** Bytes with the end; 0 when there is no whole line. */
  consumed: number;
  /** LINE_FLAG bits. */
  flags: number;
  /** The line begins with DATA, BDAT, STARTTLS or AUTH: what follows may not be a command. */
  changesReading: boolean;
}

/** The first line of `input`. A line ends at LF; one that has no CR before it is flagged. */
export function scanLine(input: Uint8Array, maxLineBytes: number): ScannedLine {
  const end = input.indexOf(LF);
  if (end < 0) return { length: 0, consumed: 0, flags: 0, changesReading: false };
  const complete = end > 0 && input[end - 1] === CR;
  let length = complete ? end - 1 : end;
  let flags = complete ? 0 : LINE_FLAG.bareLf;
  if (length > maxLineBytes) {
    length = maxLineBytes;
    flags |= LINE_FLAG.tooLong;
  }
  const line = input.subarray(0, length);
  if (line.includes(0)) flags |= LINE_FLAG.nul;
  if (line.includes(CR)) flags |= LINE_FLAG.bareCr;
  if (line.some((byte) => byte > 127)) flags |= LINE_FLAG.eightBit;
  const text = Buffer.from(line).toString('latin1');
  return {
    length,
    consumed: end + 1,
    flags,
    changesReading: /^(?:DATA|BDAT|STARTTLS|AUTH)(?![a-z0-9])/i.test(text),
  };
}

export interface ScanRules {
  /** DATA: unstuff dots and look for the end. Otherwise a BDAT chunk, read to its last byte. */
  dots: boolean;
  normalizeNewlines: boolean;
  /** Longest line, CRLF included; 0: no limit. */
  maxLineBytes: number;
}

export interface ScannedContent {
  content: Buffer;
  /** Bytes read, the end of data included. */
  consumed: number;
  /** CONTENT_FLAG bits. */
  flags: number;
  /** `Received:` fields before the first empty line. */
  trace: number;
  /** Where their values begin; NO_FIELD where there is none before the first empty line. */
  messageIdAt: number;
  contentTypeAt: number;
  /** Whether the name of a field before the first empty line begins with 'X-ProtoRelay-'. */
  marked: boolean;
  ended: boolean;
}

/** Reads content up to CRLF "." CRLF, or all of `input` when there is no such end. RFC 5321 §4.1.1.4, §4.5.2. */
export function scanContent(input: Uint8Array, rules: ScanRules): ScannedContent {
  const scan = new ContentScan(rules);
  let consumed = 0;
  while (consumed < input.length && !scan.ended) scan.take(input[consumed++] as number);
  if (!rules.dots) scan.finish();
  const { flags, trace, messageIdAt, contentTypeAt, marked, ended } = scan;
  return {
    content: Buffer.from(scan.output),
    consumed,
    flags,
    trace,
    messageIdAt,
    contentTypeAt,
    marked,
    ended,
  };
}

class ContentScan {
  readonly output: number[] = [];
  flags = 0;
  trace = 0;
  messageIdAt: number = NO_FIELD;
  contentTypeAt: number = NO_FIELD;
  marked = false;
  ended = false;
  readonly #rules: ScanRules;
  #state: 'lineStart' | 'dot' | 'dotCr' | 'text' | 'cr' = 'lineStart';
  #inHeader = true;
  #line: number[] = [];

  constructor(rules: ScanRules) {
    this.#rules = rules;
  }

  take(byte: number): void {
    // A byte may first decide what the bytes before it were, and is then read again in the new state.
    while (!this.#step(byte)) {}
  }

  /** True when the byte was used up. */
  #step(byte: number): boolean {
    switch (this.#state) {
      case 'lineStart':
        this.#state = byte === DOT && this.#rules.dots ? 'dot' : 'text';
        return this.#state === 'dot';
      case 'dot':
        this.#state = byte === CR ? 'dotCr' : 'text';
        return this.#state === 'dotCr';
      case 'dotCr':
        this.ended = byte === LF;
        if (!this.ended) this.#bareCr();
        return this.ended;
      case 'cr':
        if (byte === LF) {
          this.#newline(CR, LF);
          this.#state = 'lineStart';
          return true;
        }
        this.#bareCr();
        return false;
      case 'text':
        if (byte === CR) this.#state = 'cr';
        else if (byte === LF) this.#bareLf();
        else this.#text(byte);
        return true;
    }
  }

  /** The last byte was read: a final CR has no LF. */
  finish(): void {
    this.ended = true;
    if (this.#state === 'cr') this.#bareCr();
  }

  /** A CR that no LF follows. As text it is part of its line; normalized it ends the line, but a dot after it is text. */
  #bareCr(): void {
    this.flags |= CONTENT_FLAG.bareCr;
    this.#state = 'text';
    if (this.#rules.normalizeNewlines) this.#newline(CR, LF);
    else this.#text(CR);
  }

  #bareLf(): void {
    this.flags |= CONTENT_FLAG.bareLf;
    if (this.#rules.normalizeNewlines) this.#newline(CR, LF);
    else this.#newline(LF);
  }

  #text(byte: number): void {
    if (byte === 0) this.flags |= CONTENT_FLAG.nul;
    if (byte > 127) this.flags |= CONTENT_FLAG.eightBit;
    this.output.push(byte);
    this.#line.push(byte);
    const { maxLineBytes } = this.#rules;
    if (maxLineBytes > 0 && this.#line.length + 2 > maxLineBytes) this.flags |= CONTENT_FLAG.lineTooLong;
    if (this.#inHeader && byte === COLON) this.#field();
    if (this.#inHeader && this.#line.length === OUR_PREFIX.length)
      this.marked ||= String.fromCharCode(...this.#line).toLowerCase() === OUR_PREFIX;
  }

  /** The line has come to a colon: what stands before it may be the name of a field. */
  #field(): void {
    const name = String.fromCharCode(...this.#line).toLowerCase();
    const at = this.output.length;
    if (/^received[ \t]*:$/.test(name)) this.trace++;
    if (/^message-id[ \t]*:$/.test(name) && this.messageIdAt === NO_FIELD) this.messageIdAt = at;
    if (/^content-type[ \t]*:$/.test(name) && this.contentTypeAt === NO_FIELD) this.contentTypeAt = at;
  }

  #newline(...bytes: number[]): void {
    this.output.push(...bytes);
    if (this.#line.length === 0) this.#inHeader = false;
    this.#line = [];
  }
}

/** Content as DATA sends it: a dot doubled after CRLF and at the start, a last CRLF added if missing, the end. */
export function stuffContent(content: Uint8Array): Buffer {
  const output: number[] = [];
  let lineStart = true;
  for (let i = 0; i < content.length; i++) {
    const byte = content[i] as number;
    if (lineStart && byte === DOT) output.push(DOT);
    output.push(byte);
    lineStart = byte === LF && i > 0 && content[i - 1] === CR;
  }
  if (!lineStart) output.push(CR, LF);
  output.push(DOT, CR, LF);
  return Buffer.from(output);
}
