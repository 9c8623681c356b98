/**
 * XCLIENT and XFORWARD (Postfix, XCLIENT_README and XFORWARD_README): a trusted peer tells whom it speaks for, as
 * attributes with xtext values.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { isHeloName } from './address.ts';

export const XCLIENT_ATTRIBUTES = [
  'NAME',
  'ADDR',
  'PORT',
  'PROTO',
  'HELO',
  'LOGIN',
  'REVERSE_NAME',
  'DESTADDR',
  'DESTPORT',
] as const;
export const XFORWARD_ATTRIBUTES = ['NAME', 'ADDR', 'PORT', 'PROTO', 'HELO', 'IDENT', 'SOURCE'] as const;

/** What was told; null: the peer does not know ([UNAVAILABLE]). */
export interface Told {
  /** As the rest of the relay writes addresses. */
  address?: string | null;
  helo?: string | null;
  protocol?: string | null;
  login?: string | null;
  /** The rest, for the log: NAME, PORT, IDENT … */
  others: Record<string, string>;
}

const MAX_VALUE = 255;
const UNAVAILABLE = new Set(['[UNAVAILABLE]', '[TEMPUNAVAIL]']);

/** The attributes of a line; or a string that says what is wrong with it. */
export function parseTold(line: string, known: readonly string[]): Told | string {
  const words = line
    .split(' ')
    .slice(1)
    .filter((word) => word !== '');
  if (words.length === 0) return 'no attributes';
  const told: Told = { others: {} };
  for (const word of words) {
    const equals = word.indexOf('=');
    const name = word.slice(0, Math.max(0, equals)).toUpperCase();
    if (!known.includes(name)) return `unknown attribute ${equals < 0 ? word : name}`;
    const written = decodeXtext(word.slice(equals + 1));
    if (written === null || written.length > MAX_VALUE) return `bad value of ${name}`;
    const value = UNAVAILABLE.has(written.toUpperCase()) || written === '' ? null : written;
    if (!take(told, name, value)) return `bad value of ${name}`;
  }
  return told;
}

/** What two commands told together; where both tell something, the later one counts. */
export function addTold(before: Told | null, told: Told): Told {
  return before === null ? told : { ...before, ...told, others: { ...before.others, ...told.others } };
}

/** False when the value cannot be one of that attribute. */
function take(told: Told, name: string, value: string | null): boolean {
  switch (name) {
    case 'ADDR': {
      const address = value?.replace(/^IPv6:/i, '') ?? null;
      told.address = address;
      return address === null || isIPv4(address) || (isIPv6(address) && !address.includes('%'));
    }
    case 'HELO':
      told.helo = value;
      return value === null || isHeloName(value);
    case 'PROTO':
      told.protocol = value?.toUpperCase() ?? null;
      return value === null || /^E?SMTP$/i.test(value);
    case 'LOGIN':
      told.login = value;
      return true;
    default:
      told.others[name.toLowerCase()] = value ?? '';
      return true;
  }
}

/** RFC 3461 §4: `+XX` is an octet; null when it is malformed or hides a control character. */
function decodeXtext(text: string): string | null {
  if (/\+(?![0-9A-F]{2})/i.test(text)) return null;
  const bytes = text.replace(/\+([0-9A-F]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  const decoded = Buffer.from(bytes, 'latin1').toString('utf8');
  return /[\p{Cc}\ufffd]/u.test(decoded) ? null : decoded;
}
