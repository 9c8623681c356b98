/** CRAM-MD5 (RFC 2195): a challenge, answered by the user name and a keyed digest. Pure. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { utf8Text } from './base64.ts';
import { saslPrepare } from './prepare.ts';

export interface CramResponse {
  username: string;
  /** 16 octets. */
  digest: Buffer;
}

/** `<unique.time@host>` */
export function cramChallenge(unique: string, nowMs: number, hostname: string): string {
  return `<${unique}.${Math.floor(nowMs / 1000)}@${hostname}>`;
}

/** `user SP 32 hexadecimal digits`; null when it is not that. */
export function parseCramResponse(octets: Uint8Array): CramResponse | null {
  const text = utf8Text(octets);
  const [, name = '', digest = ''] = (text && /^(.+) ([0-9a-fA-F]{32})$/s.exec(text)) || [];
  if (name.includes('\0')) return null;
  const username = saslPrepare(name);
  return username ? { username, digest: Buffer.from(digest, 'hex') } : null;
}

export function cramDigest(challenge: string, password: string): Buffer {
  return createHmac('md5', Buffer.from(password, 'utf8')).update(challenge, 'utf8').digest();
}

/** Compares in a time that does not depend on where the digests differ. */
export function isCramDigest(challenge: string, password: string, digest: Uint8Array): boolean {
  return timingSafeEqual(cramDigest(challenge, password), digest);
}
