/**
 * Tokens that let clients in over HTTP: `pr_<id>_<secret>`. What is kept of one is its SHA-256: the secret is random, so a
 * slow hash would only cost time (~190 bits of 32 letters and digits).
 */
import { createHash, randomInt, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { MAX_ATTRIBUTE_LENGTH } from '../mail/attributes.ts';

/** Each may do what those before it may; `inject` only puts mail in. */
export const ROLES = ['viewer', 'operator', 'admin', 'inject'] as const;
export type Role = (typeof ROLES)[number];

const ID_LENGTH = 8;
const SECRET_LENGTH = 32;
const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const TEXT = new RegExp(`^pr_([0-9A-Za-z]{${ID_LENGTH}})_([0-9A-Za-z]{${SECRET_LENGTH}})$`);
export const MAX_TOKEN_NAME = 128;

export const tokenSchema = z.strictObject({
  id: z.string().regex(/^[0-9A-Za-z]{8}$/, 'eight letters and digits'),
  name: z.string().min(1).max(MAX_TOKEN_NAME),
  role: z.enum(ROLES),
  /** Whose mail it sees and sends; empty: everybody's. */
  tenants: z.array(z.string().min(1).max(MAX_ATTRIBUTE_LENGTH)).max(1000).default([]),
  /** From where it is good; empty: from everywhere. */
  networks: z.array(z.string()).max(1000).default([]),
  created_at: z.iso.datetime(),
  /** null: it has no end. */
  ends_at: z.iso.datetime().nullable().default(null),
  /** Hex. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 of 64 hex digits'),
});
export type Token = z.output<typeof tokenSchema>;

const letters = (count: number): string =>
  Array.from({ length: count }, () => LETTERS[randomInt(LETTERS.length)]).join('');

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');

/** @returns also the text that the client gets, and nobody else ever. */
export function newToken(given: Omit<Token, 'id' | 'sha256'>): { token: Token; text: string } {
  const id = letters(ID_LENGTH);
  const text = `pr_${id}_${letters(SECRET_LENGTH)}`;
  return { token: { ...given, id, sha256: hashOf(text) }, text };
}

/** The id in a token's text; null where the text is none. */
export const tokenId = (text: string): string | null => TEXT.exec(text)?.[1] ?? null;

/** Whether the text is that of the token, in the same time for every text. */
export function isOfToken({ sha256 }: Token, text: string): boolean {
  return timingSafeEqual(Buffer.from(sha256, 'hex'), Buffer.from(hashOf(text), 'hex'));
}

/** Whether who has a role may do what needs another. */
export function mayDo(role: Role, needed: Role): boolean {
  if (needed === 'inject') return role === 'inject' || role === 'admin';
  return role !== 'inject' && ROLES.indexOf(role) >= ROLES.indexOf(needed);
}
