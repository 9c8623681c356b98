/**
 * SCRAM-SHA-256 and its -PLUS (RFC 5802, RFC 7677): messages and keys of both sides, pure. The session and the delivery
 * client decide what is done when.
 */
import { createHash, createHmac, pbkdf2, pbkdf2Sync, timingSafeEqual } from 'node:crypto';
import { decodeBase64, utf8Text } from './base64.ts';
import { saslPrepare } from './prepare.ts';

/** What a server keeps of a password. */
export interface ScramKeys {
  salt: Uint8Array;
  iterations: number;
  storedKey: Uint8Array;
  serverKey: Uint8Array;
}

/** What ties an exchange to the TLS connection under it (RFC 5929, RFC 9266). */
export interface ChannelBinding {
  type: string;
  octets: Uint8Array;
}

/** RFC 7677 §4 asks for 4096 at least; a server that asks for more than the limit means us harm. */
export const SCRAM_ITERATIONS = 15_000;
export const MIN_SCRAM_ITERATIONS = 4096;
export const MAX_SCRAM_ITERATIONS = 1_000_000;

const HASH = 'sha256';
const HASH_BYTES = 32;
const MAX_NONCE = 512;
const MAX_SALT = 1024;

const hmac = (key: Uint8Array, text: string): Buffer => createHmac(HASH, key).update(text, 'utf8').digest();
const hash = (octets: Uint8Array): Buffer => createHash(HASH).update(octets).digest();

function keysOf(salted: Uint8Array, salt: Uint8Array, iterations: number): ScramKeys {
  const storedKey = hash(hmac(salted, 'Client Key'));
  return { salt, iterations, storedKey, serverKey: hmac(salted, 'Server Key') };
}

/** Keys for a (prepared) password; as slow as `iterations` make it, so not for a thread with sessions. */
export function scramKeys(password: string, salt: Uint8Array, iterations: number): ScramKeys {
  return keysOf(pbkdf2Sync(password, salt, iterations, HASH_BYTES, HASH), salt, iterations);
}

// -------------------------------------------------------------------------------------------------- server side

export interface ClientFirst {
  /** 'n': the client knows no channel binding; 'y': it does and thinks that we do not; else the type it uses. */
  binding: string;
  /** gs2-header, for the check of the channel binding. */
  gs2Header: string;
  authorize: string;
  username: string;
  nonce: string;
  /** The message without gs2-header, part of what is signed. */
  bare: string;
}

/** client-first-message; null when it is malformed. An extension marked mandatory (`m=`) is malformed to us. */
export function parseClientFirst(octets: Uint8Array): ClientFirst | null {
  const text = utf8Text(octets);
  const match = text === null ? null : /^(n|y|p=([A-Za-z0-9.-]+)),(?:a=([^,\0]*))?,(.*)$/s.exec(text);
  if (match === null) return null;
  const [, flag = '', type, authorize = '', bare = ''] = match;
  const [, name = '', nonce = ''] = /^n=([^,\0]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,\0]*)*$/.exec(bare) ?? [];
  if (nonce === '' || nonce.length > MAX_NONCE) return null;
  const username = nameOf(name);
  const acting = nameOf(authorize);
  if (!username || acting === null) return null;
  const gs2Header = (text as string).slice(0, -bare.length);
  return { binding: type ?? flag, gs2Header, authorize: acting, username, nonce, bare };
}

/** saslname: ',' and '=' are written =2C and =3D. */
function nameOf(text: string): string | null {
  if (/=(?!2C|3D)/.test(text)) return null;
  return saslPrepare(text.replaceAll('=2C', ',').replaceAll('=3D', '='));
}

/** server-first-message. @param nonce of the client, then ours. */
export function serverFirst(nonce: string, { salt, iterations }: ScramKeys): string {
  return `r=${nonce},s=${Buffer.from(salt).toString('base64')},i=${iterations}`;
}

export interface ClientFinal {
  /** Octets of c=: the gs2-header, then the channel binding. */
  binding: Buffer;
  nonce: string;
  proof: Buffer;
  /** The message without the proof, part of what is signed. */
  withoutProof: string;
}

/** client-final-message; null when it is malformed. */
export function parseClientFinal(octets: Uint8Array): ClientFinal | null {
  const text = utf8Text(octets);
  const match =
    text === null
      ? null
      : /^(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,\0]*)*?),p=([A-Za-z0-9+/=]+)$/.exec(text);
  if (match === null) return null;
  const [, withoutProof = '', bound = '', nonce = '', proved = ''] = match;
  const binding = decodeBase64(bound);
  const proof = decodeBase64(proved);
  if (binding === null || proof === null || proof.length !== HASH_BYTES) return null;
  return { binding, nonce, proof, withoutProof };
}

/** Whether c= says what we know: the header the client began with, and the binding of our own connection. */
export function isBoundTo(final: ClientFinal, gs2Header: string, channel: ChannelBinding | null): boolean {
  const octets = channel === null ? Buffer.alloc(0) : channel.octets;
  const expected = Buffer.concat([Buffer.from(gs2Header, 'utf8'), octets]);
  return expected.length === final.binding.length && timingSafeEqual(expected, final.binding);
}

/** The server's signature when the proof is right, else null. Takes the same time whatever the proof is. */
export function proveClient(keys: ScramKeys, authMessage: string, proof: Uint8Array): Buffer | null {
  const signature = hmac(keys.storedKey, authMessage);
  const clientKey = xor(proof, signature);
  return timingSafeEqual(hash(clientKey), keys.storedKey) ? hmac(keys.serverKey, authMessage) : null;
}

export function authMessage(clientFirstBare: string, first: string, clientFinalWithoutProof: string): string {
  return `${clientFirstBare},${first},${clientFinalWithoutProof}`;
}

function xor(a: Uint8Array, b: Uint8Array): Buffer {
  const result = Buffer.alloc(a.length);
  for (let i = 0; i < a.length; i++) result[i] = (a[i] as number) ^ (b[i] as number);
  return result;
}

// -------------------------------------------------------------------------------------------------- client side

/** An exchange as client: `first`, then `final` for the server's first message, then `isServer` for its last. */
export class ScramClient {
  readonly first: string;
  readonly #bare: string;
  readonly #gs2Header: string;
  readonly #nonce: string;
  readonly #password: string;
  readonly #channel: ChannelBinding | null;
  #serverSignature: Buffer | null = null;

  /**
   * @param nonce printable ASCII without commas.
   * @param channel null: without channel binding. 'unoffered': we could bind, but the server does not offer it; it is told
   *   so, and notices if somebody took that out of its offer (RFC 5802 §6).
   */
  constructor(
    username: string,
    password: string,
    nonce: string,
    channel: ChannelBinding | 'unoffered' | null = null,
  ) {
    const name = (saslPrepare(username) ?? username).replaceAll('=', '=3D').replaceAll(',', '=2C');
    this.#channel = typeof channel === 'string' ? null : channel;
    this.#gs2Header = this.#channel !== null ? `p=${this.#channel.type},,` : channel === null ? 'n,,' : 'y,,';
    this.#bare = `n=${name},r=${nonce}`;
    this.first = this.#gs2Header + this.#bare;
    this.#nonce = nonce;
    this.#password = saslPrepare(password) ?? password;
  }

  /**
   * client-final-message for server-first-message. PBKDF2 runs on a thread of the pool, not on the caller's.
   * @returns null when the server's message is malformed, not for our nonce, or asks for absurd work.
   */
  async final(serverFirstMessage: string): Promise<string | null> {
    const match = /^r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9]\d{0,6})(?:,[A-Za-z]=[^,]*)*$/.exec(
      serverFirstMessage,
    );
    if (match === null) return null;
    const [, nonce = '', saltText = '', count = ''] = match;
    const salt = decodeBase64(saltText);
    const iterations = Number(count);
    if (salt === null || salt.length > MAX_SALT || nonce.length > 2 * MAX_NONCE) return null;
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) return null;
    if (iterations < MIN_SCRAM_ITERATIONS || iterations > MAX_SCRAM_ITERATIONS) return null;
    const salted = await saltedPassword(this.#password, salt, iterations);
    return this.#prove(salted, salt, iterations, serverFirstMessage, nonce);
  }

  #prove(
    salted: Buffer,
    salt: Buffer,
    iterations: number,
    serverFirstMessage: string,
    nonce: string,
  ): string {
    const bound = Buffer.concat([
      Buffer.from(this.#gs2Header, 'utf8'),
      this.#channel === null ? Buffer.alloc(0) : this.#channel.octets,
    ]);
    const withoutProof = `c=${bound.toString('base64')},r=${nonce}`;
    const message = authMessage(this.#bare, serverFirstMessage, withoutProof);
    const keys = keysOf(salted, salt, iterations);
    const proof = xor(hmac(salted, 'Client Key'), hmac(keys.storedKey, message));
    this.#serverSignature = hmac(keys.serverKey, message);
    return `${withoutProof},p=${proof.toString('base64')}`;
  }

  /** Whether server-final-message proves that the server knows the password's keys. */
  isServer(serverFinalMessage: string): boolean {
    const [, text = ''] = /^v=([A-Za-z0-9+/=]+)(?:,[A-Za-z]=[^,]*)*$/.exec(serverFinalMessage) ?? [];
    const signature = decodeBase64(text);
    const expected = this.#serverSignature;
    if (signature === null || expected === null || signature.length !== expected.length) return false;
    return timingSafeEqual(signature, expected);
  }
}

function saltedPassword(password: string, salt: Uint8Array, iterations: number): Promise<Buffer> {
  return new Promise((resolve, reject) =>
    pbkdf2(password, salt, iterations, HASH_BYTES, HASH, (error, key) =>
      error === null ? resolve(key) : reject(error),
    ),
  );
}
