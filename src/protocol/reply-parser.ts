/**
 * Reads a peer's replies line by line (client side), as mature relays do: three digits begin a line of a reply, '-'
 * behind them says that more follow, anything else that it is the last, and the code of the last line counts. A peer
 * that writes its 250 in an odd way has taken the mail all the same; not to see it would send the mail again.
 * Promises a bounded memory whatever the peer sends. Decides nothing about what a reply means.
 */

/** One complete reply of a peer. */
export interface PeerReplyText {
  /** 200…599 */
  code: number;
  /** Enhanced status code, '2.1.5', or '' when the peer gave none. */
  enhanced: string;
  /** Text of each line, without code, separator and enhanced code. At least one line (maybe empty), at most 256. */
  lines: string[];
}

/** Lines of one reply that are kept; the longest EHLO replies seen in the wild have about 30. */
const MAX_LINES = 256;
/** Characters of one reply that are kept, all lines together. */
const MAX_CHARACTERS = 65_536;
/** Characters of one reply that are read at all, with lines before it that are no reply. */
const MAX_READ = 1_048_576;

const ENHANCED = /^([245])\.(\d{1,3})\.(\d{1,3})(?: |$)/;

export class ReplyParser {
  #partial = false;
  #lines: string[] = [];
  #kept = 0;
  #read = 0;
  #strays = 0;

  /** True between the first and the last line of a reply. */
  get partial(): boolean {
    return this.#partial;
  }

  /** Lines since the last reply that are no lines of a reply. */
  get strays(): number {
    return this.#strays;
  }

  /**
   * Takes one line without its line end.
   * @returns the reply when this was its last line; null when more lines follow; 'stray' when the line stands before a
   *   reply and begins none: where one reply only is awaited it may be passed over, else nobody knows which of them it
   *   was meant to be; 'malformed' when the code is not one of SMTP (RFC 5321 §4.2: 2yz to 5yz) or the reply does not
   *   end. After 'malformed' the connection cannot be trusted; the parser itself starts anew.
   */
  push(line: string): PeerReplyText | null | 'stray' | 'malformed' {
    this.#read += line.length + 2;
    if (this.#read > MAX_READ) return this.#malformed();
    const code = replyCode(line);
    if (code === 0) {
      this.#strays++;
      if (!this.#partial) return 'stray';
      // Between the lines of a reply it can only be text of that reply.
      this.#keep(line);
      return null;
    }
    if (code < 200 || code > 599) return this.#malformed();
    const separator = line.charCodeAt(3);
    // Blank (or tab) and '-' stand between code and text; 250OK has nothing there.
    const from = separator === 0x20 || separator === 0x2d || separator === 0x09 ? 4 : 3;
    this.#keep(line.slice(from));
    this.#partial = true;
    if (separator === 0x2d) return null;
    const reply = withoutEnhanced(code, this.#lines);
    this.#reset();
    return reply;
  }

  /** Keeps a line of the reply; what is more than anybody needs is dropped: a wordy 250 is a 250. */
  #keep(text: string): void {
    if (this.#lines.length >= MAX_LINES) return;
    const room = MAX_CHARACTERS - this.#kept;
    if (room <= 0 && this.#lines.length > 0) return;
    this.#lines.push(text.length > room ? text.slice(0, room) : text);
    this.#kept += text.length;
  }

  #malformed(): 'malformed' {
    this.#reset();
    return 'malformed';
  }

  #reset(): void {
    this.#partial = false;
    this.#lines = [];
    this.#kept = 0;
    this.#read = 0;
    this.#strays = 0;
  }
}

/** The first enhanced code of the reply's own class counts; the same code at the start of further lines is cut too. */
function withoutEnhanced(code: number, lines: string[]): PeerReplyText {
  let enhanced = '';
  const classDigit = Math.floor(code / 100);
  for (let i = 0; i < lines.length; i++) {
    const text = lines[i] as string;
    const match = ENHANCED.exec(text);
    if (match === null || Number(match[1]) !== classDigit) continue;
    const found = `${match[1]}.${Number(match[2])}.${Number(match[3])}`;
    if (enhanced === '') enhanced = found;
    else if (enhanced !== found) continue;
    lines[i] = text.slice(match[0].length);
  }
  return { code, enhanced, lines };
}

/** The three digits at the start of a reply line as a number; 0 when they are not there, or are four. */
function replyCode(line: string): number {
  const a = digit(line, 0);
  const b = digit(line, 1);
  const c = digit(line, 2);
  if (a < 0 || b < 0 || c < 0 || digit(line, 3) >= 0) return 0;
  // 000 is a code too, though not one of SMTP. It is read as 1, since 0 means that there is no code.
  return a * 100 + b * 10 + c || 1;
}

/** -1: no digit there. */
function digit(line: string, at: number): number {
  const value = line.charCodeAt(at) - 0x30;
  return value >= 0 && value <= 9 ? value : -1;
}

/** The code of a plain one-line reply, as the parser reads it but without making a string; 0 for everything else. */
export function plainCode(text: Buffer, offset: number, length: number): number {
  if (length < 3 || (length > 3 && text[offset + 3] !== 0x20)) return 0;
  const a = (text[offset] as number) - 0x30;
  const b = (text[offset + 1] as number) - 0x30;
  const c = (text[offset + 2] as number) - 0x30;
  // Each by itself: '24:' is no 250.
  if (a < 0 || a > 9 || b < 0 || b > 9 || c < 0 || c > 9) return 0;
  return a * 100 + b * 10 + c;
}
