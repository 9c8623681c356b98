/**
 * Command grammar of RFC 5321 §4.1.1 and RFC 3030: from a line to its verb and parsed arguments. Pure; knows nothing
 * of sessions. A refusal is the reply to give.
 */
import { type Path, parsePath } from './address.ts';
import { CHAR, isClass } from './ascii.ts';
import {
  MAIL_PARAMETERS,
  type MailParameters,
  parseParameters,
  RCPT_PARAMETERS,
  type RcptParameters,
} from './parameters.ts';
import { REPLY, type Reply } from './reply.ts';

/**
 * Four letters as one number, whatever their case; 0 when the text is shorter or they are no ASCII. A character such as
 * U+0144, whose low octet is a letter, must not pass for it: the reactor, which reads octets, would not hold the socket.
 */
export function verbCode(text: string): number {
  if (text.length < 4) return 0;
  const a = text.charCodeAt(0);
  const b = text.charCodeAt(1);
  const c = text.charCodeAt(2);
  const d = text.charCodeAt(3);
  if ((a | b | c | d) > 0x7f) return 0;
  return ((((a & 0xdf) << 8) | (b & 0xdf)) << 16) | ((c & 0xdf) << 8) | (d & 0xdf);
}

/** Methods of HTTP, and of what is like it; some servers are reached with a line that says no more. */
const HTTP_METHOD =
  /^(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI)(?: |$)|HTTP\/\d(?:\.\d)?$/i;

/**
 * Whether a first line is that of another protocol: HTTP, or anything that begins with no letter, as a TLS handshake does.
 * A browser or another program that can be made to send a text of somebody else's has our commands behind such a line, and
 * may be a client that may relay. Nobody who means SMTP begins so.
 */
export function isOtherProtocol(line: string): boolean {
  if (line === '') return false;
  const first = line.charCodeAt(0) & 0xdf;
  return first < 0x41 || first > 0x5a || line.charCodeAt(0) > 0x7f || HTTP_METHOD.test(line);
}

export interface MailCommand {
  path: Path;
  parameters: Readonly<MailParameters>;
}

export interface RcptCommand {
  path: Path;
  parameters: Readonly<RcptParameters>;
}

export interface BdatCommand {
  /** Octets that follow. A number too large to be exact does no harm: it is only compared with limits. */
  octets: number;
  last: boolean;
}

const NO_MAIL_PARAMETERS: Readonly<MailParameters> = Object.freeze({
  size: -1,
  body: '7BIT',
  smtpUtf8: false,
  ret: undefined,
  envid: undefined,
  auth: undefined,
});
const NO_RCPT_PARAMETERS: Readonly<RcptParameters> = Object.freeze({ notify: 0, orcpt: undefined });

/** MAIL FROM:<reverse-path> [SP parameters] (RFC 5321 §4.1.1.2). @param strict of the grammar of addresses. */
export function parseMail(line: string, strict = false): MailCommand | Reply {
  const start = pathStart(line, 'FROM:');
  if (start < 0) return REPLY.mail_syntax;
  const path = parsePath(line, start, strict);
  if (path === null || (path.domain === '' && path.address !== '')) return REPLY.sender_syntax;
  let parameters = NO_MAIL_PARAMETERS;
  if (path.end < line.length) {
    if (line.charCodeAt(path.end) !== 0x20) return REPLY.sender_syntax;
    const given = { ...NO_MAIL_PARAMETERS };
    const bad = parseParameters(line, path.end, MAIL_PARAMETERS, given);
    if (bad !== null) return REPLY.bad_parameter.with(bad);
    parameters = given;
  }
  if (path.nonAscii && !parameters.smtpUtf8) return REPLY.needs_smtputf8;
  return { path, parameters };
}

/**
 * RCPT TO:<forward-path> [SP parameters] (RFC 5321 §4.1.1.3).
 * @param smtpUtf8 whether MAIL gave SMTPUTF8 (RFC 6531 §3.5).
 * @param strict of the grammar of addresses.
 */
export function parseRcpt(line: string, smtpUtf8: boolean, strict = false): RcptCommand | Reply {
  const start = pathStart(line, 'TO:');
  if (start < 0) return REPLY.rcpt_syntax;
  const path = parsePath(line, start, strict);
  if (path === null || path.address === '') return REPLY.recipient_syntax;
  let parameters = NO_RCPT_PARAMETERS;
  if (path.end < line.length) {
    if (line.charCodeAt(path.end) !== 0x20) return REPLY.recipient_syntax;
    const given = { ...NO_RCPT_PARAMETERS };
    const bad = parseParameters(line, path.end, RCPT_PARAMETERS, given);
    if (bad !== null) return REPLY.bad_parameter.with(bad);
    parameters = given;
  }
  if (!smtpUtf8 && (path.nonAscii || isUtf8Orcpt(parameters.orcpt))) return REPLY.needs_smtputf8;
  return { path, parameters };
}

/** BDAT SP octets [SP LAST] (RFC 3030 §2). */
export function parseBdat(line: string): BdatCommand | Reply {
  let at = 5;
  if (line.charCodeAt(4) !== 0x20) return REPLY.bdat_syntax;
  while (isClass(line.charCodeAt(at), CHAR.digit)) at++;
  if (at === 5 || at > 25) return REPLY.bdat_syntax;
  const octets = Number(line.slice(5, at));
  const end = argumentEnd(line);
  if (end === at) return { octets, last: false };
  if (line.charCodeAt(at) !== 0x20 || line.slice(at + 1, end).toUpperCase() !== 'LAST')
    return REPLY.bdat_syntax;
  return { octets, last: true };
}

/** What follows the verb and one space, without spaces at the end, which RFC 5321 §4.1.1 tolerates; '' for nothing. */
export function argumentOf(line: string, verbLength: number): string {
  const end = argumentEnd(line);
  return end > verbLength + 1 ? line.slice(verbLength + 1, end) : '';
}

function argumentEnd(line: string): number {
  let end = line.length;
  while (end > 0 && line.charCodeAt(end - 1) === 0x20) end--;
  return end;
}

/**
 * Index of the '<' after `MAIL FROM:` or `RCPT TO:`; -1 when the keyword is not there. Spaces after the colon are not in
 * the grammar, but so many programs send them (RFC 5321 §3.3 says so) that refusing would lose honest mail; nothing can
 * be misread through them.
 */
function pathStart(line: string, keyword: string): number {
  let at = 5;
  if (line.charCodeAt(4) !== 0x20) return -1;
  for (let i = 0; i < keyword.length; i++, at++) {
    const code = line.charCodeAt(at);
    const want = keyword.charCodeAt(i);
    if (code !== want && (code & 0xdf) !== want) return -1;
  }
  while (line.charCodeAt(at) === 0x20) at++;
  return at < line.length ? at : -1;
}

/** An ORCPT of type utf-8 that is written in UTF-8 itself needs SMTPUTF8 (RFC 6533 §3). */
function isUtf8Orcpt(orcpt: string | undefined): boolean {
  return orcpt !== undefined && /[^\0-\x7f]/.test(orcpt);
}
