/**
 * Parameters of MAIL and RCPT (RFC 5321 §4.1.2 Mail-parameters): one row per keyword, which parses and checks its
 * value. Keywords that have no row are refused, and so is a keyword given twice.
 */
import { type BodyType, NOTIFY, type ReturnType } from '../mail/envelope.ts';
import { parseMailbox } from './address.ts';
import { CHAR, isClass } from './ascii.ts';
import { decodeXtext, isXtext } from './xtext.ts';

export interface MailParameters {
  /** Octets the client announced, -1 when it did not. Larger than any limit when it has more digits than a number holds. */
  size: number;
  body: BodyType;
  smtpUtf8: boolean;
  ret: ReturnType | undefined;
  /** xtext as received. */
  envid: string | undefined;
  /** Who submitted the message first, says the client (RFC 4954 §5): xtext as received, or '<>'. */
  auth: string | undefined;
}

export interface RcptParameters {
  /** Bit set of NOTIFY, 0 when not given. */
  notify: number;
  /** address type, ';', xtext as received. */
  orcpt: string | undefined;
}

/** Stores the value and returns true, or returns false when it is not valid. `value` is '' when there was no '='. */
type ParameterRow<T> = (value: string, into: T) => boolean;
export type ParameterTable<T> = ReadonlyMap<string, ParameterRow<T>>;

const MAX_ENVID = 100;
const MAX_ORCPT = 500;
const MAX_AUTH = 500;

export const MAIL_PARAMETERS: ParameterTable<MailParameters> = new Map<string, ParameterRow<MailParameters>>([
  [
    'SIZE', // RFC 1870
    (value, into) => {
      into.size = Number(value);
      return /^\d{1,20}$/.test(value);
    },
  ],
  [
    'BODY', // RFC 6152, RFC 3030
    (value, into) => {
      const body = value.toUpperCase();
      if (body !== '7BIT' && body !== '8BITMIME' && body !== 'BINARYMIME') return false;
      into.body = body;
      return true;
    },
  ],
  [
    'SMTPUTF8', // RFC 6531
    (value, into) => {
      into.smtpUtf8 = true;
      return value === '';
    },
  ],
  [
    'RET', // RFC 3461 §4.3
    (value, into) => {
      const ret = value.toUpperCase();
      if (ret !== 'FULL' && ret !== 'HDRS') return false;
      into.ret = ret;
      return true;
    },
  ],
  [
    'ENVID', // RFC 3461 §4.4: printable once decoded
    (value, into) => {
      into.envid = value;
      return (
        value !== '' && value.length <= MAX_ENVID && isXtext(value) && /^[ -~]*$/.test(decodeXtext(value))
      );
    },
  ],
  [
    'AUTH', // RFC 4954 §5: a mailbox as xtext, or <>
    (value, into) => {
      into.auth = value;
      if (value === '<>') return true;
      if (value === '' || value.length > MAX_AUTH || !isXtext(value)) return false;
      const mailbox = parseMailbox(decodeXtext(value));
      return mailbox !== null && mailbox.domain !== '';
    },
  ],
]);

export const RCPT_PARAMETERS: ParameterTable<RcptParameters> = new Map<string, ParameterRow<RcptParameters>>([
  [
    'NOTIFY', // RFC 3461 §4.1
    (value, into) => {
      into.notify = notifyBits(value);
      return into.notify !== 0;
    },
  ],
  [
    'ORCPT', // RFC 3461 §4.2, RFC 6533 §3
    (value, into) => {
      into.orcpt = value;
      return isOrcpt(value);
    },
  ],
]);

/** Bit set of a NOTIFY list, 0 when it is malformed; NEVER stands alone. */
function notifyBits(value: string): number {
  let bits = 0;
  for (const word of value.toUpperCase().split(',')) {
    if (word === 'NEVER') bits |= NOTIFY.never;
    else if (word === 'SUCCESS') bits |= NOTIFY.success;
    else if (word === 'FAILURE') bits |= NOTIFY.failure;
    else if (word === 'DELAY') bits |= NOTIFY.delay;
    else return 0;
  }
  return (bits & NOTIFY.never) !== 0 && bits !== NOTIFY.never ? 0 : bits;
}

function isOrcpt(value: string): boolean {
  const semicolon = value.indexOf(';');
  if (semicolon <= 0 || semicolon === value.length - 1 || Buffer.byteLength(value) > MAX_ORCPT) return false;
  for (let i = 0; i < semicolon; i++) if (!isClass(value.charCodeAt(i), CHAR.atext)) return false;
  const address = value.slice(semicolon + 1);
  // utf-8-addr-unitext and utf-8-addr-xtext: \x{…} for what xtext cannot say, or UTF-8 itself.
  if (value.slice(0, semicolon).toLowerCase() === 'utf-8')
    return (
      /^(?:[!-*,-<>-[\]-~\u0080-\u{10ffff}]|\+[0-9A-F]{2}|\\x\{[0-9A-F]{2,6}\})+$/u.test(address) &&
      !address.includes('\ufffd')
    );
  return isXtext(address);
}

/**
 * Reads `SP keyword[=value]` until the end of the line; spaces at the end are ignored (RFC 5321 §4.1.1).
 * @param start index after the path.
 * @returns null, or the keyword that is unknown, given twice or whose value is not valid ('' when it is no keyword).
 */
export function parseParameters<T>(
  text: string,
  start: number,
  table: ParameterTable<T>,
  into: T,
): string | null {
  const length = text.length;
  let seen = '';
  let at = start;
  while (at < length) {
    if (text.charCodeAt(at) !== 0x20) return '';
    while (text.charCodeAt(at) === 0x20) at++;
    if (at >= length) return null;
    const keywordStart = at;
    if (!isClass(text.charCodeAt(at), CHAR.letDig)) return '';
    while (isClass(text.charCodeAt(at), CHAR.ldh)) at++;
    const keyword = text.slice(keywordStart, at).toUpperCase();
    let value = '';
    if (text.charCodeAt(at) === 0x3d) {
      const valueStart = ++at;
      while (isClass(text.charCodeAt(at), CHAR.paramValue) || text.charCodeAt(at) >= 0x80) at++;
      value = text.slice(valueStart, at);
      if (value === '') return keyword;
    }
    if (at < length && text.charCodeAt(at) !== 0x20) return keyword;
    const row = table.get(keyword);
    if (row === undefined || seen.includes(`${keyword} `) || !row(value, into)) return keyword;
    seen += `${keyword} `;
  }
  return null;
}
