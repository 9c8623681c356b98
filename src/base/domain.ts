/**
 * The one form of a domain: A-labels in lower case without a dot at the end, or an address literal with its address as
 * formatIp writes it. Everything keyed by domain (routes, TLS rules, destinations, lists of the config) is keyed by this
 * form, and is looked up by it; how an address was written is kept beside it.
 */
import { domainToASCII } from 'node:url';
import { formatIp, parseIp } from './ip.ts';

const MAX_DOMAIN = 255;
const NOT_ASCII = /[\u0080-\uffff]/;

/** null when IDNA refuses it, or nothing is left. The grammar says what else is wrong with a domain. */
export function domainForm(text: string): string | null {
  if (text.startsWith('[')) return literalForm(text.toLowerCase());
  if (!NOT_ASCII.test(text)) return withoutDot(text.toLowerCase());
  const ascii = domainToASCII(text);
  // A name that maps to an address is refused: it is an address in disguise (１９２.０.２.１).
  return parseIp(ascii) !== null || ascii.length > MAX_DOMAIN ? null : withoutDot(ascii);
}

/** The same, for keys that may be no domain: these stay as they are, in lower case. */
export function domainKey(text: string): string {
  return domainForm(text) ?? text.toLowerCase();
}

/** Letters, digits, hyphens and, as met in practice, underscores in labels; A-labels in lower case. */
export function isDomainForm(text: string): boolean {
  return (
    text.length <= MAX_DOMAIN && /^(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*$/.test(text)
  );
}

/** What a user may send from, as an operator writes it: an address, or '@' and a domain. */
export function isSenderRule(text: string): boolean {
  const domain =
    text.includes('@') && !/\s/.test(text) ? domainForm(text.slice(text.lastIndexOf('@') + 1)) : null;
  return domain !== null && (isDomainForm(domain) || domain.startsWith('['));
}

/** The domain of an address, in that form; '' when it has none. */
export function domainOf(address: string): string {
  const at = address.lastIndexOf('@');
  return at < 0 ? '' : domainKey(address.slice(at + 1));
}

function withoutDot(domain: string): string | null {
  const name = domain.endsWith('.') ? domain.slice(0, -1) : domain;
  return name === '' ? null : name;
}

/**
 * The form of a literal. IPv4 may have leading zeros (RFC 5321 §4.1.3), and IPv6 is met without its tag. Literals with
 * other tags stay as they are.
 */
function literalForm(literal: string): string {
  const inner = literal.slice(1, -1);
  const six = inner.startsWith('ipv6:');
  const ip = parseIp(six ? inner.slice(5) : inner.replace(/(^|\.)0+(?=\d)/g, '$1'));
  if (ip === null) return literal;
  const address = formatIp(ip);
  return address.includes(':') ? `[ipv6:${address}]` : `[${address}]`;
}
