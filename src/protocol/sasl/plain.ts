/** The messages of PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login) and XOAUTH2 (forerunner of RFC 7628). */
import { utf8Text } from './base64.ts';
import { saslPrepare } from './prepare.ts';

export interface PlainMessage {
  /** Who to act as; '' is the user itself. */
  authorize: string;
  username: string;
  password: string;
}

/** The prompts of LOGIN. Clients wait for any 334; these two texts are the ones that all of them know. */
export const LOGIN_PROMPTS = ['Username:', 'Password:'] as const;

/** `[authzid] NUL authcid NUL passwd`; null when it is something else, not UTF-8, or has characters it must not have. */
export function parsePlain(octets: Uint8Array): PlainMessage | null {
  const text = utf8Text(octets);
  if (text === null) return null;
  const parts = text.split('\0');
  if (parts.length !== 3) return null;
  const [authorize, username, password] = parts.map(saslPrepare);
  if (authorize === null || authorize === undefined || !username || !password) return null;
  return { authorize, username, password };
}

/** A user name or password as LOGIN sends it; null when it cannot be one. */
export function parseLoginField(octets: Uint8Array): string | null {
  const text = utf8Text(octets);
  return text === null || text === '' || text.includes('\0') ? null : saslPrepare(text);
}

export function plainMessage(username: string, password: string): Buffer {
  return Buffer.from(`\0${username}\0${password}`, 'utf8');
}

/** The initial response of XOAUTH2: user and bearer token, separated by ^A. */
export function xoauth2Message(username: string, accessToken: string): Buffer {
  return Buffer.from(`user=${username}\x01auth=Bearer ${accessToken}\x01\x01`, 'utf8');
}
