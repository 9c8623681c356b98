/**
 * Readable names from MIME header fields: encoded words (RFC 2047), which mailers also put where they are not
 * allowed, and parameters in pieces and charsets (RFC 2231). Tolerant: what cannot be decoded stays as written.
 */

import { isUtf8 } from 'node:buffer';

const ENCODED_WORD = /=\?([^?\s]{1,40})\?([bq])\?([^?\s]*)\?=/gi;
const MAX_PIECES = 100;

function decodeBytes(bytes: Uint8Array, charset: string): string {
  try {
    return new TextDecoder(charset.toLowerCase().split('*', 1)[0]).decode(bytes);
  } catch {
    return Buffer.from(bytes).toString('latin1');
  }
}

/** Header bytes as text: UTF-8 where they are that (RFC 6532), else Latin-1. */
export function headerText(bytes: Buffer): { text: string; encoding: 'utf8' | 'latin1' } {
  const encoding = isUtf8(bytes) ? 'utf8' : 'latin1';
  return { text: bytes.toString(encoding), encoding };
}

function wordBytes(encoding: string, text: string): Buffer {
  if (encoding.toLowerCase() === 'b') return Buffer.from(text, 'base64');
  return percentBytes(text.replaceAll('_', ' ').replaceAll('%', '%25').replaceAll('=', '%'));
}

/** Bytes of text with %XX escapes; a lone % stands for itself. */
function percentBytes(text: string): Buffer {
  const raw = Buffer.from(text, 'utf8');
  const bytes = Buffer.allocUnsafe(raw.length);
  let length = 0;
  for (let i = 0; i < raw.length; i++) {
    const hex = raw[i] === 0x25 ? raw.toString('latin1', i + 1, i + 3) : '';
    if (/^[0-9a-f]{2}$/i.test(hex)) {
      bytes[length++] = Number.parseInt(hex, 16);
      i += 2;
    } else bytes[length++] = raw[i] as number;
  }
  return bytes.subarray(0, length);
}

/** Decodes encoded words; white space between two of them is dropped (RFC 2047 §6.2). */
export function decodeWords(text: string): string {
  if (!text.includes('=?')) return text;
  const joined = text.replace(/(\?=)\s+(?==\?)/g, '$1');
  return joined.replace(ENCODED_WORD, (_, charset: string, encoding: string, word: string) =>
    decodeBytes(wordBytes(encoding, word), charset),
  );
}

/** 'text/plain; charset=x' as value and parameters with lower-case names. */
export function parseParameters(field: string): { value: string; parameters: Map<string, string> } {
  const raw = new Map<string, string>();
  const semicolon = field.indexOf(';');
  const value = (semicolon < 0 ? field : field.slice(0, semicolon)).trim().toLowerCase();
  if (semicolon >= 0) {
    const pattern = /;\s*([^\s=;"]{1,100})\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*))/gs;
    pattern.lastIndex = 0;
    for (const [, name, quoted, plain] of field.slice(semicolon).matchAll(pattern)) {
      const key = (name as string).toLowerCase();
      if (!raw.has(key))
        raw.set(key, quoted !== undefined ? quoted.replace(/\\(.)/gs, '$1') : (plain ?? '').trim());
    }
  }
  return { value, parameters: raw };
}

/** A parameter by name, joined from its RFC 2231 pieces; null when absent. */
export function parameter(parameters: Map<string, string>, name: string): string | null {
  const plain = parameters.get(name);
  const extended = parameters.get(`${name}*`);
  if (extended !== undefined) return decodeExtended([{ text: extended, encoded: true }]);
  const pieces: { text: string; encoded: boolean }[] = [];
  for (let i = 0; i < MAX_PIECES; i++) {
    const encoded = parameters.get(`${name}*${i}*`);
    const piece = encoded ?? parameters.get(`${name}*${i}`);
    if (piece === undefined) break;
    pieces.push({ text: piece, encoded: encoded !== undefined });
  }
  if (pieces.length > 0) return decodeExtended(pieces);
  return plain === undefined ? null : decodeWords(plain);
}

/** RFC 2231 §4: the first piece begins with charset'language'. */
function decodeExtended(pieces: { text: string; encoded: boolean }[]): string {
  let charset = 'utf-8';
  const bytes = pieces.map(({ text, encoded }, i) => {
    if (!encoded) return Buffer.from(text, 'utf8');
    const match = i === 0 ? /^([^']*)'[^']*'/.exec(text) : null;
    if (match) charset = match[1] || charset;
    return percentBytes(match ? text.slice(match[0].length) : text);
  });
  return decodeBytes(Buffer.concat(bytes), charset);
}
