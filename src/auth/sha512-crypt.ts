/** SHA-512-crypt, the `$6$` hashes of crypt(3) (Drepper, "Unix crypt using SHA-256 and SHA-512", 2008). */
import { createHash } from 'node:crypto';

const ALPHABET = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const DEFAULT_ROUNDS = 5000;
const MIN_ROUNDS = 1000;
const MAX_ROUNDS = 999_999_999;
const MAX_SALT = 16;
const BYTES = 64;

const sha512 = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash('sha512');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** `octets` repeated to `length` octets. */
function repeated(octets: Uint8Array, length: number): Buffer {
  return Buffer.alloc(length, octets);
}

/**
 * @param setting `$6$salt` or `$6$rounds=N$salt`; what follows is ignored.
 * @returns the whole hash, setting included; null when the setting is neither.
 */
export function sha512Crypt(password: string, setting: string): string | null {
  const [, rounds, saltText = ''] = /^\$6\$(?:rounds=(\d{1,9})\$)?([^$:\n]*)/.exec(setting) ?? [];
  if (!setting.startsWith('$6$')) return null;
  const key = Buffer.from(password, 'utf8');
  const salt = Buffer.from(saltText, 'utf8').subarray(0, MAX_SALT);
  const count =
    rounds === undefined ? DEFAULT_ROUNDS : Math.min(MAX_ROUNDS, Math.max(MIN_ROUNDS, Number(rounds)));
  const digest = stretch(key, salt, count);
  const shown = rounds === undefined ? '' : `rounds=${count}$`;
  return `$6$${shown}${salt.toString('utf8')}$${encode(digest)}`;
}

function stretch(key: Buffer, salt: Buffer, rounds: number): Buffer {
  const alternate = sha512(key, salt, key);
  const parts: Uint8Array[] = [key, salt, repeated(alternate, key.length)];
  for (let length = key.length; length > 0; length >>= 1) parts.push((length & 1) !== 0 ? alternate : key);
  let digest = sha512(...parts);
  const p = repeated(sha512(...Array.from({ length: key.length }, () => key)), key.length);
  const s = repeated(sha512(...Array.from({ length: 16 + (digest[0] as number) }, () => salt)), salt.length);
  for (let round = 0; round < rounds; round++) {
    const odd = (round & 1) !== 0;
    const mixed: Uint8Array[] = [odd ? p : digest];
    if (round % 3 !== 0) mixed.push(s);
    if (round % 7 !== 0) mixed.push(p);
    mixed.push(odd ? digest : p);
    digest = sha512(...mixed);
  }
  return digest;
}

/** Three octets at a time, in crypt's own order: 0, 21, 42; then 22, 43, 1; and so on. */
function encode(digest: Buffer): string {
  let text = '';
  const four = (a: number, b: number, c: number, characters: number): void => {
    let bits = (a << 16) | (b << 8) | c;
    for (let i = 0; i < characters; i++, bits >>= 6) text += ALPHABET[bits & 63];
  };
  let [i, j, k] = [0, 21, 42];
  for (let group = 0; group < 21; group++) {
    four(digest[i] as number, digest[j] as number, digest[k] as number, 4);
    [i, j, k] = [j + 1, k + 1, i + 1];
  }
  four(0, 0, digest[BYTES - 1] as number, 2);
  return text;
}
