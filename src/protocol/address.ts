/**
 * Address grammar of RFC 5321 §4.1.2 with the additions of RFC 6531 §3.3: what does not match is null, and nothing is
 * repaired. Unless it is to be strict, it takes what exists beside that grammar: dots anywhere in a local part (`a..b@`,
 * `user.@`, `.user@`) and more than 64 octets of it, underscores in a domain, a dot at its end, IPv6 literals without
 * their tag. Hand-written so that time is linear in the length whatever the input.
 */
import { isIPv6 } from 'node:net';
import { domainForm, domainOf } from '../base/domain.ts';
import { CHAR, isClass } from './ascii.ts';

/** Octets, RFC 5321 §4.5.3.1. */
const MAX_LOCAL = 64;
const MAX_DOMAIN = 255;
const MAX_LABEL = 63;
/** A path of 256 with its angle brackets. */
const MAX_MAILBOX = 254;

export interface Path {
  /** Mailbox as written, without brackets and source route; '' is the null path. Only 'postmaster' may have no domain. */
  address: string;
  /** In the form of base/domain.ts; '' when there is none. */
  domain: string;
  /** The address has characters outside ASCII and needs SMTPUTF8. */
  nonAscii: boolean;
  /** Index of the first character after the closing bracket. */
  end: number;
}

/**
 * Parses a reverse-path or forward-path in angle brackets.
 * @param start index of the '<'. A source route is accepted and ignored (RFC 5321 appendix C).
 * @param strict takes only what the grammar allows.
 * @returns null when it is no path.
 */
export function parsePath(text: string, start: number, strict = false): Path | null {
  if (text.charCodeAt(start) !== 0x3c) return null;
  let at = start + 1;
  const first = text.charCodeAt(at);
  if (first === 0x3e) return { address: '', domain: '', nonAscii: false, end: at + 1 };
  if (first === 0x40) {
    at = skipSourceRoute(text, at, strict);
    if (at < 0) return null;
  }
  const localEnd = scanLocalPart(text, at, strict);
  if (localEnd < 0) return null;
  const next = text.charCodeAt(localEnd);
  if (next === 0x3e) {
    const local = text.slice(at, localEnd);
    // Quoted or not, it is the same address (RFC 5321 §4.1.2).
    return unquotedLocal(local).toLowerCase() === 'postmaster'
      ? { address: local, domain: '', nonAscii: false, end: localEnd + 1 }
      : null;
  }
  if (next !== 0x40) return null;
  const domainStart = localEnd + 1;
  const domainEnd =
    text.charCodeAt(domainStart) === 0x5b
      ? scanLiteral(text, domainStart, strict)
      : scanDomain(text, domainStart, strict);
  if (domainEnd < 0 || text.charCodeAt(domainEnd) !== 0x3e) return null;
  if (strict && octets(text.slice(at, localEnd)) > MAX_LOCAL) return null;
  return finish(text, at, domainStart, domainEnd, strict);
}

/** A local part as it is meant: a quoted string without its quotes. */
export function unquotedLocal(local: string): string {
  return local.startsWith('"') ? local.slice(1, -1).replaceAll(/\\(.)/gs, '$1') : local;
}

/**
 * One spelling of a mailbox, to count and compare by: its domain in the form of base/domain.ts, its local part in lower case, since hardly any host
 * tells apart what differs in case, and without quotes and backslashes that it can do without.
 */
export function oneSpelling(address: string): string {
  const at = address.lastIndexOf('@');
  return at < 0
    ? address.toLowerCase()
    : `${unquotedLocal(address.slice(0, at)).toLowerCase()}@${domainOf(address)}`;
}

/** Checks a mailbox without brackets (VRFY). */
export function parseMailbox(text: string, strict = false): Path | null {
  const path = parsePath(`<${text}>`, 0, strict);
  return path !== null && path.end === text.length + 2 ? path : null;
}

function finish(
  text: string,
  start: number,
  domainStart: number,
  domainEnd: number,
  strict: boolean,
): Path | null {
  const address = text.slice(start, domainEnd);
  const written = text.slice(domainStart, domainEnd);
  const nonAscii = !isAscii(address);
  if (!nonAscii) {
    if (written.length > MAX_DOMAIN || address.length > MAX_MAILBOX) return null;
    return { address, domain: domainForm(written) ?? written, nonAscii, end: domainEnd + 1 };
  }
  // A decoder puts U+FFFD where bytes were no UTF-8; relaying it would change the address.
  if (address.includes('\ufffd') || Buffer.byteLength(address) > MAX_MAILBOX) return null;
  const domain = domainForm(written);
  if (domain === null || (written[0] !== '[' && scanDomain(domain, 0, strict) !== domain.length)) return null;
  return { address, domain, nonAscii, end: domainEnd + 1 };
}

/** `@a,@b:` before the mailbox. Index after the colon, -1 when malformed. */
function skipSourceRoute(text: string, start: number, strict: boolean): number {
  let at = start;
  for (;;) {
    if (text.charCodeAt(at) !== 0x40) return -1;
    at = scanDomain(text, at + 1, strict);
    if (at < 0) return -1;
    const code = text.charCodeAt(at);
    if (code === 0x3a) return at + 1;
    if (code !== 0x2c) return -1;
    at++;
  }
}

/** Dot-string, though not of dots alone, or quoted-string. Index after it, -1 when malformed. */
function scanLocalPart(text: string, start: number, strict: boolean): number {
  if (text.charCodeAt(start) === 0x22) return scanQuoted(text, start + 1);
  let at = start;
  let atomStart = start;
  let dots = 0;
  for (;;) {
    const code = text.charCodeAt(at);
    if (isClass(code, CHAR.atext) || code >= 0x80) at++;
    else if (at === atomStart && strict) return -1;
    else if (code === 0x2e) {
      atomStart = ++at;
      dots++;
    } else return at - start === dots ? -1 : at;
  }
}

function scanQuoted(text: string, start: number): number {
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) return at + 1;
    if (code === 0x5c) {
      if (!isClass(text.charCodeAt(++at), CHAR.printable)) return -1;
    } else if (!isClass(code, CHAR.qtext) && code < 0x80) return -1;
  }
  return -1;
}

/** Domain of letters, digits, hyphens within labels, and U-labels. Index after it, -1 when malformed. */
export function scanDomain(text: string, start: number, strict: boolean): number {
  let at = start;
  let labelStart = start;
  let last = 0x2d;
  for (;;) {
    const code = text.charCodeAt(at);
    if (isClass(code, CHAR.letDig) || code >= 0x80 || (code === 0x5f && !strict)) {
      last = code;
      at++;
    } else if (code === 0x2d && at > labelStart) {
      last = code;
      at++;
    } else if (at === labelStart && at > start && code !== 0x2e && code !== 0x2d && !strict) return at;
    else if (at === labelStart || last === 0x2d || at - labelStart > MAX_LABEL) return -1;
    else if (code === 0x2e) labelStart = ++at;
    else return at;
  }
}

/**
 * `[192.0.2.1]`, `[IPv6:2001:db8::1]` or `[tag:text]` (RFC 5321 §4.1.3); unless strict, `[2001:db8::1]` too. Index after the
 * bracket, -1 when malformed.
 */
export function scanLiteral(text: string, start: number, strict: boolean): number {
  const end = text.indexOf(']', start);
  if (end < 0) return -1;
  const inner = text.slice(start + 1, end);
  if (inner.length > MAX_DOMAIN - 2) return -1;
  const colon = inner.indexOf(':');
  const valid =
    colon < 0
      ? isIPv4(inner)
      : isTagged(inner.slice(0, colon), inner.slice(colon + 1)) || (!strict && isBareIPv6(inner));
  return valid ? end + 1 : -1;
}

const isBareIPv6 = (text: string): boolean => isIPv6(text) && !text.includes('%');

function isTagged(tag: string, value: string): boolean {
  if (tag.toLowerCase() === 'ipv6') return isBareIPv6(value);
  if (tag === '' || value === '' || !isClass(tag.charCodeAt(tag.length - 1), CHAR.letDig)) return false;
  for (let i = 0; i < tag.length; i++) if (!isClass(tag.charCodeAt(i), CHAR.ldh)) return false;
  for (let i = 0; i < value.length; i++) if (!isClass(value.charCodeAt(i), CHAR.dcontent)) return false;
  return true;
}

/** Snum 3("." Snum): one to three digits each, 0…255; leading zeros are in the grammar. */
function isIPv4(text: string): boolean {
  let parts = 1;
  let digits = 0;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (isClass(code, CHAR.digit)) {
      value = value * 10 + code - 0x30;
      if (++digits > 3 || value > 255) return false;
    } else if (code === 0x2e && digits > 0) {
      parts++;
      digits = value = 0;
    } else return false;
  }
  return parts === 4 && digits > 0;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) >= 0x80) return false;
  return true;
}

/** Length of the text in octets of UTF-8. */
const octets = (text: string): number => (isAscii(text) ? text.length : Buffer.byteLength(text));

/**
 * The argument of HELO or EHLO: an address literal, or a name. RFC 5321 §4.1.4 wants a domain, but ordinary machines give
 * names with underscores, bare addresses, literals that are none, and a client must not lose mail over its name; what
 * could not stand in a trace header is refused.
 */
export function isHeloName(text: string, strict = false): boolean {
  if (text.length === 0 || text.length > MAX_DOMAIN) return false;
  const literal = text.charCodeAt(0) === 0x5b;
  if (strict)
    return (
      (literal ? scanLiteral(text, 0, true) : scanDomain(text, 0, true)) === text.length && isAscii(text)
    );
  const last = text.length - 1;
  if (literal && text.charCodeAt(last) !== 0x5d) return false;
  let from = 0;
  let dots = 0;
  const end = literal ? last : text.length;
  if (literal) from = 1;
  for (let i = from; i < end; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x2e) dots++;
    else if (!isClass(code, CHAR.atext) && code !== 0x3a) return false;
  }
  return end - from > dots;
}
