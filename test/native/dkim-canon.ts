/**
 * The relaxed forms of RFC 6376 §3.4.2 and §3.4.4 in their plainest words, and a verifier of signatures on top: the twin
 * of native/dkim_canon.cc. Everything is Latin-1 text, a character for each octet.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';

export interface Field {
  name: string;
  text: string;
}

/** Header section and body. */
export function partsOf(message: string): { header: string; body: string } {
  if (message.startsWith('\r\n')) return { header: '', body: message.slice(2) };
  const end = message.indexOf('\r\n\r\n');
  return end === -1
    ? { header: message, body: '' }
    : { header: message.slice(0, end + 2), body: message.slice(end + 4) };
}

export function fieldsOf(header: string): Field[] {
  const fields: Field[] = [];
  for (const text of header.split(/\r\n(?![ \t])/)) {
    const colon = text.indexOf(':');
    const name = text.slice(0, colon).replace(/[ \t]+$/, '');
    if (colon > 0 && !/^[ \t]/.test(text) && name !== '' && !name.includes('\r\n'))
      fields.push({ name, text });
  }
  return fields;
}

export function relaxedField({ name, text }: Field): string {
  const value = text.slice(text.indexOf(':') + 1);
  const line = value.replaceAll('\r\n', '').replace(/[ \t]+/g, ' ');
  return `${name.toLowerCase()}:${line.replace(/^ /, '').replace(/ $/, '')}`;
}

export function relaxedBody(body: string): string {
  const lines = body.split('\r\n').map((line) => line.replace(/[ \t]+/g, ' ').replace(/ $/, ''));
  while (lines.at(-1) === '') lines.pop();
  return lines.map((line) => `${line}\r\n`).join('');
}

/** The tags of a DKIM-Signature. */
export function tagsOf(field: Field): Map<string, string> {
  const value = field.text.slice(field.text.indexOf(':') + 1).replace(/\s+/g, '');
  const tags = new Map<string, string>();
  for (const tag of value.split(';')) {
    const at = tag.indexOf('=');
    if (at > 0) tags.set(tag.slice(0, at), tag.slice(at + 1));
  }
  return tags;
}

/** Says of each signature of a message whether it verifies. */
export function verified(message: Buffer, keyOf: (tags: Map<string, string>) => KeyObject): boolean[] {
  const { header, body } = partsOf(message.toString('latin1'));
  const fields = fieldsOf(header);
  const hash = createHash('sha256').update(relaxedBody(body), 'latin1').digest('base64');
  return fields
    .filter(({ name }) => name.toLowerCase() === 'dkim-signature')
    .map((signature) => {
      const tags = tagsOf(signature);
      const left = [...fields];
      let signed = '';
      for (const name of (tags.get('h') ?? '').split(':')) {
        const at = left.findLastIndex((field) => field.name.toLowerCase() === name.toLowerCase());
        if (at === -1) continue;
        signed += `${relaxedField(left[at] as Field)}\r\n`;
        left.splice(at, 1);
      }
      const text = signature.text.replace(/(;[ \t\r\n]*b=)[^;]*$/, '$1');
      signed += relaxedField({ name: signature.name, text });
      const key = keyOf(tags);
      const data = Buffer.from(signed, 'latin1');
      const bytes = Buffer.from(tags.get('b') ?? '', 'base64');
      const good =
        tags.get('a') === 'rsa-sha256'
          ? verify('sha256', data, key, bytes)
          : verify(null, createHash('sha256').update(data).digest(), key, bytes);
      return good && tags.get('bh') === hash;
    });
}

/** Public key of a DNS record. */
export function publicKeyOf(record: string): KeyObject {
  const der = Buffer.from(/p=(\S+)/.exec(record)?.[1] ?? '', 'base64');
  const prefix = Buffer.from('302a300506032b6570032100', 'hex');
  const key = record.includes('k=ed25519') ? Buffer.concat([prefix, der]) : der;
  return createPublicKey({ key, format: 'der', type: 'spki' });
}
