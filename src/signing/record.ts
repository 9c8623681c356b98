/** The TXT record of a key (RFC 6376 §3.6.1, RFC 8463): writes it, and says whether what DNS has is that of a key. Pure. */
import type { KeyFile } from './key-file.ts';

/** Most octets of one string of a TXT record (RFC 1035 §3.3.14). */
const STRING_BYTES = 255;

export const recordName = (selector: string, domain: string): string => `${selector}._domainkey.${domain}`;

export const recordText = ({ algorithm, publicKey }: Pick<KeyFile, 'algorithm' | 'publicKey'>): string =>
  `v=DKIM1; k=${algorithm}; p=${publicKey}`;

/** The text in strings that fit a TXT record. */
export function recordStrings(text: string): string[] {
  const strings: string[] = [];
  for (let at = 0; at < text.length; at += STRING_BYTES) strings.push(text.slice(at, at + STRING_BYTES));
  return strings;
}

/** As a line of a zone file. */
export function zoneLine(name: string, text: string): string {
  const strings = recordStrings(text).map((one) => `"${one}"`);
  const data = strings.length === 1 ? strings[0] : `( ${strings.join('\n    ')} )`;
  return `${name}. IN TXT ${data}`;
}

/** Why none of these records shows the key to verifiers; '' when one does. */
export function recordFault(
  records: readonly string[],
  key: Pick<KeyFile, 'algorithm' | 'publicKey'>,
): string {
  const faults = records.map((record) => faultOf(record, key));
  return faults.includes('') ? '' : (faults[0] ?? 'there is no record');
}

function faultOf(record: string, { algorithm, publicKey }: Pick<KeyFile, 'algorithm' | 'publicKey'>): string {
  const tags = new Map<string, string>();
  for (const tag of record.split(';')) {
    const at = tag.indexOf('=');
    if (at > 0) tags.set(tag.slice(0, at).trim(), tag.slice(at + 1).replace(/\s+/g, ''));
  }
  const has = (tag: string, wanted: readonly string[]): boolean => {
    const value = tags.get(tag);
    return value === undefined || value.split(':').some((one) => wanted.includes(one.toLowerCase()));
  };
  if (!has('v', ['dkim1'])) return 'the record is of another version (v=)';
  const given = tags.get('p');
  if (given === undefined) return 'the record has no key (p=)';
  if (given === '') return 'the record says that the key is revoked (p= is empty)';
  if (tags.get('k') === undefined ? algorithm !== 'rsa' : !has('k', [algorithm]))
    return `the record is of another type of key (k=), and this one is ${algorithm}`;
  if (!has('h', ['sha256'])) return 'the record does not allow sha256 (h=)';
  if (!has('s', ['*', 'email'])) return 'the record is not for mail (s=)';
  return samePublicKey(given, publicKey, algorithm) ? '' : 'the record has another key (p=)';
}

/** Some write an RSA key without the structure around it (PKCS #1), which verifiers take too. */
function samePublicKey(given: string, publicKey: string, algorithm: KeyFile['algorithm']): boolean {
  const one = Buffer.from(given, 'base64');
  const own = Buffer.from(publicKey, 'base64');
  if (one.equals(own)) return true;
  return (
    algorithm === 'rsa' &&
    one.length > 100 &&
    one.length < own.length &&
    own.subarray(-one.length).equals(one)
  );
}
