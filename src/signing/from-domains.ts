/**
 * The domains of a message's From field (RFC 5322 §3.4, §3.6.2), read leniently: what a receiver may take for its author
 * counts. Pure, and linear in the length of the header section.
 */
import { domainForm, isDomainForm } from '../base/domain.ts';

/** In the form of base/domain.ts, each once; or why there are none. */
export type FromDomains = { domains: string[] } | { fault: string };

/** Longest From field that is read; one with more is nobody's list of authors. */
const MOST_CHARACTERS = 8192;
/** Most domains that one From may name. */
const MOST_DOMAINS = 8;

/** @param header the header section, its octets as Latin-1. */
export function fromDomains(header: string): FromDomains {
  let value: string | null = null;
  for (const match of header.matchAll(/(?:^|\r\n)from[ \t]*:/gi)) {
    // A second one is what receivers disagree about: a signature would vouch for whichever they show.
    if (value !== null) return { fault: 'it has several From fields' };
    value = valueAt(header, match.index + match[0].length);
  }
  if (value === null) return { fault: 'it has no From field' };
  if (value.length > MOST_CHARACTERS) return { fault: 'its From field is too long' };
  const domains = new Set<string>();
  for (const address of addressesIn(Buffer.from(value, 'latin1').toString('utf8'))) {
    const domain = domainForm(address.slice(address.lastIndexOf('@') + 1));
    if (domain === null || !isDomainForm(domain)) return { fault: 'its From field names no domain' };
    domains.add(domain);
  }
  if (domains.size === 0) return { fault: 'its From field has no address' };
  if (domains.size > MOST_DOMAINS) return { fault: 'its From field names too many domains' };
  return { domains: [...domains] };
}

/** The value of a field from this place on, unfolded. */
function valueAt(header: string, from: number): string {
  let end = header.indexOf('\r\n', from);
  while (end !== -1 && (header[end + 2] === ' ' || header[end + 2] === '\t'))
    end = header.indexOf('\r\n', end + 2);
  return header.slice(from, end === -1 ? undefined : end).replaceAll('\r\n', '');
}

/**
 * The addresses of a list of mailboxes and groups, without comments, names, quotes and white space. What stands in angle
 * brackets is an address; elsewhere what has an @.
 */
function addressesIn(value: string): string[] {
  const addresses: string[] = [];
  let plain = '';
  let angle: string | null = null;
  let bracketed = false;
  let depth = 0;
  let quoted = false;
  const end = (): void => {
    const text = plain.replace(/\s+/g, '');
    if (!bracketed && text.includes('@')) addresses.push(text);
    plain = '';
    bracketed = false;
  };
  for (let i = 0; i < value.length; i++) {
    const c = value[i] as string;
    if (c === '\\' && (quoted || depth > 0)) i++;
    else if (quoted) quoted = c !== '"';
    else if (c === '(') depth++;
    else if (depth > 0) depth -= c === ')' ? 1 : 0;
    else if (c === '"') quoted = true;
    else if (c === '<') angle = '';
    else if (c === '>' && angle !== null) {
      const text = angle.replace(/\s+/g, '');
      if (text.includes('@')) addresses.push(text);
      angle = null;
      bracketed = true;
    } else if (angle !== null) angle += c;
    else if (c === ',' || c === ';') end();
    // The name of a group ends here; within a domain literal it does not.
    else if (c === ':' && !plain.includes('[')) plain = '';
    else plain += c;
  }
  // An angle bracket that nobody closed.
  if (angle?.includes('@')) addresses.push(angle.replace(/\s+/g, ''));
  end();
  return addresses;
}
