/** Files with private keys: what is in them, and the DNS record that goes with it. */
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { statSync } from 'node:fs';
import { fileFault } from '../base/file-fault.ts';
import { readRegularText } from '../base/regular-file.ts';

export interface KeyFile {
  pem: string;
  algorithm: 'rsa' | 'ed25519';
  /** Of the modulus; 256 for Ed25519. */
  bits: number;
  /** `p=` of its record. */
  publicKey: string;
  /** Of the public key, to know it again. */
  fingerprint: string;
}

/** RFC 8301 §3.2: shorter RSA keys must not sign; verifiers take none below. */
export const LEAST_BITS = 1024;
/** What it says they should have. */
export const ADVISED_BITS = 2048;
/** Longest file that is read. */
const MOST_BYTES = 65_536;
const READABLE_BY_ALL = 0o004;
const ED25519_BYTES = 32;

/** @returns the key, or what is wrong with the file. */
export function readKeyFile(file: string): KeyFile | string {
  let pem: string;
  try {
    pem = readRegularText(file, MOST_BYTES);
  } catch (error) {
    return fileFault(file, error);
  }
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(pem))
    return `${file} is encrypted, and nobody is there to type its password`;
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    return `${file} holds no private key in PEM format without a password`;
  }
  return factsOf(key, pem) ?? `${file} holds a key of type ${key.asymmetricKeyType}, not RSA or Ed25519`;
}

/** null for a key of another type. */
export function factsOf(key: KeyObject, pem: string): KeyFile | null {
  const algorithm = key.asymmetricKeyType;
  if (algorithm !== 'rsa' && algorithm !== 'ed25519') return null;
  const der = createPublicKey(key).export({ type: 'spki', format: 'der' });
  // RFC 8463 §4.2: of Ed25519 the bare key, without the structure around it.
  const publicKey = (algorithm === 'rsa' ? der : der.subarray(-ED25519_BYTES)).toString('base64');
  return {
    pem,
    algorithm,
    bits: key.asymmetricKeyDetails?.modulusLength ?? 256,
    publicKey,
    fingerprint: createHash('sha256').update(der).digest('hex'),
  };
}

/** Why such a key must not sign; '' when it may. */
export const refusalOf = ({ algorithm, bits }: KeyFile): string =>
  algorithm === 'rsa' && bits < LEAST_BITS
    ? `has ${bits} bits: receivers believe no RSA key below ${LEAST_BITS} (RFC 8301)`
    : '';

/** Why it should be replaced; '' when it need not be. */
export const weaknessOf = ({ algorithm, bits }: KeyFile): string =>
  algorithm === 'rsa' && bits < ADVISED_BITS
    ? `has ${bits} bits; ${ADVISED_BITS} are advised (RFC 8301)`
    : '';

/** Whether everybody on this machine may read it. */
export function isOpenToAll(file: string): boolean {
  try {
    return (statSync(file).mode & READABLE_BY_ALL) !== 0;
  } catch {
    return false; // whoever reads it says why it cannot be
  }
}
