/**
 * The answer about a user that does not exist: SCRAM keys as such a user would have, derived from a secret and so the same
 * each time. Nobody can tell them from real ones, and nobody can prove to have their password.
 */
import { createHmac, type KeyObject } from 'node:crypto';
import { SCRAM_ITERATIONS, type ScramKeys } from '../protocol/sasl/scram.ts';

const SALT_BYTES = 16;

const derive = (secret: Buffer | KeyObject, what: string, username: string): Buffer =>
  createHmac('sha256', secret).update(`${what}\0${username}`, 'utf8').digest();

export function saltOf(secret: Buffer | KeyObject, username: string): Buffer {
  return derive(secret, 'salt', username).subarray(0, SALT_BYTES);
}

export function unknownUserKeys(secret: Buffer | KeyObject, username: string): ScramKeys {
  return {
    salt: saltOf(secret, username),
    iterations: SCRAM_ITERATIONS,
    storedKey: derive(secret, 'stored', username),
    serverKey: derive(secret, 'server', username),
  };
}
