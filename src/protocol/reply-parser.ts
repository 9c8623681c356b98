/**
 * Reads a peer's replies line by line (client side). Owns the rules of RFC 5321 §4.2 and RFC 2034 for replies of
 * one or many lines; promises a bounded memory whatever the peer sends. Decides nothing about what a reply means.
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
/** Characters of one reply, all lines together. */
const MAX_CHARACTERS = 65_536;

const ENHANCED = /^([245])\.(\d{1,3})\.(\d{1,3})(?: |$)/;

export class ReplyParser {
  #code = 0;
  #enhanced = '';
  #lines: string[] = [];
  #characters = 0;

  /** True between the first and the last line of a reply. */
  get partial(): boolean {
    return this.#code !== 0;
  }

  /**
   * Takes one line without its line end.
   * @returns the reply when this was its last line, null when more lines follow, 'malformed' when the line is no
   *   reply line, its code differs from that of the lines before, or the reply is longer than anyone needs. After
   *   'malformed' the connection cannot be trusted; the parser itself starts anew.
   */
  push(line: string): PeerReplyText | null | 'malformed' {
    const code = replyCode(line);
    const separator = line.length > 3 ? line.charCodeAt(3) : 0x20;
    if (code === 0 || (separator !== 0x20 && separator !== 0x2d)) return this.#malformed();
    if (this.#code !== 0 && code !== this.#code) return this.#malformed();
    this.#characters += line.length;
    if (this.#characters > MAX_CHARACTERS) return this.#malformed();
    this.#code = code;
    // A wordy reply to the end of data is still a 250: taking it for a fault would send the message again.
    if (this.#lines.length < MAX_LINES) this.#lines.push(this.#withoutEnhanced(line.slice(4), code));
    if (separator === 0x2d) return null;
    const reply = { code, enhanced: this.#enhanced, lines: this.#lines };
    this.#reset();
    return reply;
  }

  /** The first enhanced code of the reply's own class counts; the same code at the start of further lines is cut too. */
  #withoutEnhanced(text: string, code: number): string {
    const match = ENHANCED.exec(text);
    if (match === null || Number(match[1]) !== Math.floor(code / 100)) return text;
    const enhanced = `${match[1]}.${Number(match[2])}.${Number(match[3])}`;
    if (this.#enhanced === '') this.#enhanced = enhanced;
    else if (this.#enhanced !== enhanced) return text;
    return text.slice(match[0].length);
  }

  #malformed(): 'malformed' {
    this.#reset();
    return 'malformed';
  }

  #reset(): void {
    this.#code = 0;
    this.#enhanced = '';
    this.#lines = [];
    this.#characters = 0;
  }
}

/** The three digits at the start of a reply line as a number 200…599; 0 when they are not there. */
function replyCode(line: string): number {
  if (line.length < 3) return 0;
  const a = line.charCodeAt(0) - 0x30;
  const b = line.charCodeAt(1) - 0x30;
  const c = line.charCodeAt(2) - 0x30;
  if (a < 2 || a > 5 || b < 0 || b > 9 || c < 0 || c > 9) return 0;
  return a * 100 + b * 10 + c;
}
