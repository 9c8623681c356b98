/**
 * Who vouches for a message: the domains of the signatures we add, else of those it came with, else its author's, whom a receiver
 * takes for it. Each once, the author's own first where we sign. Read leniently, in linear time (RFC 6376 §3.5, `d=`).
 */
import { domainForm, isDomainForm } from '../base/domain.ts';
import { fromDomains } from './from-domains.ts';

const MOST_DOMAINS = 8;
const MOST_CHARACTERS = 8192;

/** @param fields what is put before the message. @param header its own header section, asked only where those have no signature. */
export function signingDomains(fields: string, header: () => string): string[] {
  const ours = signersIn(fields);
  if (ours.length > 0) return ours;
  const text = header();
  const theirs = signersIn(text);
  if (theirs.length > 0) return theirs;
  const from = fromDomains(text);
  return 'fault' in from ? [] : from.domains;
}

function signersIn(header: string): string[] {
  const domains = new Set<string>();
  for (const { index, 0: name } of header.matchAll(/(?:^|\r\n)dkim-signature[ \t]*:/gi)) {
    const tags =
      header.slice(index + name.length, index + MOST_CHARACTERS).split(/\r\n(?![ \t])/, 1)[0] ?? '';
    for (const tag of tags.split(';')) {
      const [key = '', value = ''] = tag.split('=', 2);
      if (key.trim().toLowerCase() !== 'd') continue;
      const domain = domainForm(value.replace(/\s+/g, ''));
      if (domain !== null && isDomainForm(domain)) domains.add(domain);
    }
    if (domains.size >= MOST_DOMAINS) break;
  }
  return [...domains];
}
