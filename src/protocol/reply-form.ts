/**
 * What a reply is made of: basic code, enhanced code (RFC 3463) and text in one row. The compiler refuses a row whose codes
 * are of different classes. Constant rows are encoded once; rows with {} take run-time text, which is made harmless here
 * and nowhere else (no control or 8-bit characters, bounded).
 */

type Code2 = 211 | 214 | 220 | 221 | 235 | 250 | 251 | 252;
type Code3 = 334 | 354;
type Code4 = 421 | 450 | 451 | 452 | 454;
type Code5 = 500 | 501 | 502 | 503 | 504 | 530 | 535 | 538 | 550 | 551 | 552 | 553 | 554 | 555;
/** Banner, HELO and 3xx replies carry no enhanced code (RFC 2034 §4). */
export type Row =
  | readonly [Code2, `2.${number}.${number}` | null, string]
  | readonly [Code3, null, string]
  | readonly [Code4, `4.${number}.${number}`, string]
  | readonly [Code5, `5.${number}.${number}`, string];

/** Longest run-time text; with it a reply line stays far below the 512 octets of RFC 5321 §4.5.3.1.5. */
const MAX_TEXT = 300;

/** A reply ready to be sent. */
export class Reply {
  readonly reason: string;
  readonly code: number;
  /** The whole reply with its CRLFs, ASCII. */
  readonly line: string;
  /** The same encoded, for rows that never change. */
  readonly bytes: Buffer | null;

  constructor(reason: string, code: number, line: string, encode: boolean) {
    this.reason = reason;
    this.code = code;
    this.line = line;
    this.bytes = encode ? Buffer.from(line, 'latin1') : null;
  }
}

/** A row with a place for run-time text. */
export class ReplyTemplate {
  readonly #reason: string;
  readonly #code: number;
  readonly #before: string;
  readonly #after: string;

  constructor(reason: string, row: Row) {
    const [before = '', after = ''] = row[2].split('{}');
    this.#reason = reason;
    this.#code = row[0];
    this.#before = `${prefix(row)}${before}`;
    this.#after = `${after}\r\n`;
  }

  with(text: string | number): Reply {
    return new Reply(this.#reason, this.#code, this.#before + harmless(`${text}`) + this.#after, false);
  }

  /** The same, encoded once: for text that stays (the host name). */
  constant(text: string): Reply {
    return new Reply(this.#reason, this.#code, this.#before + harmless(text) + this.#after, true);
  }
}

function prefix(row: Row): string {
  return row[1] === null ? `${row[0]} ` : `${row[0]} ${row[1]} `;
}

/** Without control and 8-bit characters, and bounded. */
export function harmless(text: string): string {
  const short = text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text;
  return /[^ -~]/.test(short) ? short.replace(/[^ -~]/g, '?') : short;
}

/** The row as a reply ready to be sent, or with {} as a template. */
export function replyOf(reason: string, row: Row): Reply | ReplyTemplate {
  return row[2].includes('{}')
    ? new ReplyTemplate(reason, row)
    : new Reply(reason, row[0], `${prefix(row)}${row[2]}\r\n`, true);
}
