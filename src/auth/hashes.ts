/**
 * Password hashes as user files and tables hold them, told apart by how they begin: made and verified here. Both are slow
 * on purpose and run on threads of the auth pool only.
 *
 *   $argon2id$v=19$m=…,t=…,p=…$salt$hash   $scrypt$ln=…,r=…,p=…$salt$hash   $2b$…   $6$…
 *   SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey   {PLAIN}password
 */
import { argon2Sync, randomBytes, scryptSync, timingSafeEqual } from 'node:crypto';
import bcrypt from 'bcryptjs';
import { decodeBase64 } from '../protocol/sasl/base64.ts';
import {
  MAX_SCRAM_ITERATIONS,
  MIN_SCRAM_ITERATIONS,
  SCRAM_ITERATIONS,
  type ScramKeys,
  scramKeys,
} from '../protocol/sasl/scram.ts';
import type { Scheme } from './schemes.ts';
import { sha512Crypt } from './sha512-crypt.ts';

/** Work of the hashes we make: some ten milliseconds each, after the OWASP password storage sheet. */
const ARGON2 = { memory: 19_456, passes: 2, parallelism: 1 };
const SCRYPT = { ln: 15, r: 8, p: 1 };
const BCRYPT_COST = 10;
const MAX_BCRYPT_BYTES = 72;
const SHA512_ROUNDS = 20_000;
/** Memory one verification may take; a hash that asks for more is not verified. */
const MAX_MEMORY = 512 * 1_048_576;
const MAX_ARGON2_PASSES = 64;
const HASH_BYTES = 32;

/** Whether the text is a hash we can verify. */
export function isHash(text: string): boolean {
  return schemeOf(text) !== null;
}

export function schemeOf(hash: string): Scheme | null {
  if (/^SCRAM-SHA-256\$/.test(hash)) return parseScram(hash) === null ? null : 'scram-sha-256';
  if (/^\$argon2(?:id|i|d)\$/.test(hash)) return parseArgon2(hash) === null ? null : 'argon2id';
  if (hash.startsWith('$scrypt$')) return parseScrypt(hash) === null ? null : 'scrypt';
  if (/^\$2[aby]\$(?:0[4-9]|1\d|2[0-4])\$[./A-Za-z0-9]{53}$/.test(hash)) return 'bcrypt';
  if (/^\$6\$(?:rounds=\d{1,9}\$)?[^$:\s]{0,16}\$[./A-Za-z0-9]{86}$/.test(hash)) return 'sha512-crypt';
  return /^\{PLAIN\}./.test(hash) ? 'plain' : null;
}

export function makeHash(password: string, scheme: Scheme): string {
  const salt = randomBytes(16);
  switch (scheme) {
    case 'scram-sha-256':
      return formatScram(scramKeys(password, salt, SCRAM_ITERATIONS));
    case 'argon2id': {
      const { memory: m, passes: t, parallelism: p } = ARGON2;
      const key = argon2(Buffer.from(password), salt, { kind: 'argon2id', m, t, p, length: HASH_BYTES });
      return `$argon2id$v=19$m=${m},t=${t},p=${p}$${unpadded(salt)}$${unpadded(key)}`;
    }
    case 'scrypt': {
      const { ln, r, p } = SCRYPT;
      const key = scrypt(password, salt, { ln, r, p, length: HASH_BYTES });
      return `$scrypt$ln=${ln},r=${r},p=${p}$${unpadded(salt)}$${unpadded(key)}`;
    }
    case 'bcrypt':
      if (!isBcryptable(password))
        throw new Error(`bcrypt takes passwords of ${MAX_BCRYPT_BYTES} bytes at most`);
      return bcrypt.hashSync(password, BCRYPT_COST);
    case 'sha512-crypt':
      return sha512Crypt(
        password,
        `$6$rounds=${SHA512_ROUNDS}$${salt.toString('hex').slice(0, 16)}`,
      ) as string;
    case 'plain':
      return `{PLAIN}${password}`;
  }
}

/** Whether the password is the one hashed; false too for a hash we do not know. */
export function verifyHash(hash: string, password: string): boolean {
  switch (schemeOf(hash)) {
    case 'scram-sha-256': {
      const kept = parseScram(hash) as ScramKeys;
      return isEqual(scramKeys(password, kept.salt, kept.iterations).storedKey, kept.storedKey);
    }
    case 'argon2id': {
      const kept = parseArgon2(hash) as Argon2Hash;
      return isEqual(
        argon2(Buffer.from(password), kept.salt, { ...kept, length: kept.key.length }),
        kept.key,
      );
    }
    case 'scrypt': {
      const kept = parseScrypt(hash) as ScryptHash;
      return isEqual(scrypt(password, kept.salt, { ...kept, length: kept.key.length }), kept.key);
    }
    case 'bcrypt':
      // bcrypt ignores what is beyond 72 bytes: passwords that differ only there would be the same.
      return bcrypt.compareSync(password, hash) && isBcryptable(password);
    case 'sha512-crypt':
      return isEqual(Buffer.from(sha512Crypt(password, hash) ?? ''), Buffer.from(hash));
    case 'plain':
      return isEqual(Buffer.from(password), Buffer.from(hash.slice('{PLAIN}'.length)));
    case null:
      return false;
  }
}

/** Whether bcrypt looks at all of the password. */
export const isBcryptable = (password: string): boolean => Buffer.byteLength(password) <= MAX_BCRYPT_BYTES;

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

// ------------------------------------------------------------------------------------------------------- formats

/** The form PostgreSQL stores. */
export function parseScram(hash: string): ScramKeys | null {
  const [, count = '', saltText = '', stored = '', server = ''] =
    /^SCRAM-SHA-256\$(\d{1,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(hash) ?? [];
  const [salt, storedKey, serverKey] = [saltText, stored, server].map(decodeBase64);
  const iterations = Number(count);
  if (!salt?.length || storedKey?.length !== HASH_BYTES || serverKey?.length !== HASH_BYTES) return null;
  if (iterations < MIN_SCRAM_ITERATIONS || iterations > MAX_SCRAM_ITERATIONS) return null;
  return { salt, iterations, storedKey, serverKey };
}

export function formatScram({ salt, iterations, storedKey, serverKey }: ScramKeys): string {
  const [s, stored, server] = [salt, storedKey, serverKey].map((o) => Buffer.from(o).toString('base64'));
  return `SCRAM-SHA-256$${iterations}:${s}$${stored}:${server}`;
}

interface Argon2Hash {
  kind: 'argon2id' | 'argon2i' | 'argon2d';
  /** KiB. */
  m: number;
  t: number;
  p: number;
  salt: Buffer;
  key: Buffer;
}

function parseArgon2(hash: string): Argon2Hash | null {
  const match =
    /^\$(argon2(?:id|i|d))\$v=19\$m=(\d{1,7}),t=(\d{1,4}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/.exec(
      hash,
    );
  if (match === null) return null;
  const [m, t, p] = match.slice(2, 5).map(Number) as [number, number, number];
  const salt = Buffer.from(match[5] as string, 'base64');
  const key = Buffer.from(match[6] as string, 'base64');
  if (m * 1024 > MAX_MEMORY || m < 8 * p || t < 1 || t > MAX_ARGON2_PASSES || p < 1) return null;
  if (salt.length < 8 || key.length < 16 || key.length > 128) return null;
  return { kind: match[1] as Argon2Hash['kind'], m, t, p, salt, key };
}

function argon2(
  message: Buffer,
  nonce: Uint8Array,
  { kind, m, t, p, length }: Pick<Argon2Hash, 'kind' | 'm' | 't' | 'p'> & { length: number },
): Buffer {
  return argon2Sync(kind, { message, nonce, memory: m, passes: t, parallelism: p, tagLength: length });
}

interface ScryptHash {
  /** Binary logarithm of the cost. */
  ln: number;
  r: number;
  p: number;
  salt: Buffer;
  key: Buffer;
}

function parseScrypt(hash: string): ScryptHash | null {
  const match = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/.exec(
    hash,
  );
  if (match === null) return null;
  const [ln, r, p] = match.slice(1, 4).map(Number) as [number, number, number];
  const salt = Buffer.from(match[4] as string, 'base64');
  const key = Buffer.from(match[5] as string, 'base64');
  if (ln < 1 || ln > 24 || r < 1 || p < 1 || 128 * 2 ** ln * r > MAX_MEMORY) return null;
  return key.length < 16 || key.length > 128 ? null : { ln, r, p, salt, key };
}

function scrypt(
  password: string,
  salt: Uint8Array,
  { ln, r, p, length }: Pick<ScryptHash, 'ln' | 'r' | 'p'> & { length: number },
): Buffer {
  const maxmem = MAX_MEMORY + 256 * r * (p + 2) + 1_048_576;
  return scryptSync(password, salt, length, { N: 2 ** ln, r, p, maxmem });
}

const unpadded = (octets: Uint8Array): string => Buffer.from(octets).toString('base64').replaceAll('=', '');
