/** The file of tokens: JSON that `protorelay token` writes, and the HTTP plane reads whenever it is another one. */
import { statSync } from 'node:fs';
import { z } from 'zod';
import { changeFile, readIfThere } from '../base/changed-file.ts';
import { RelayError } from '../base/errors.ts';
import { NetworkSet } from '../base/ip.ts';
import { type Token, tokenSchema } from './token.ts';

const MAX_TOKENS = 100_000;
const fileSchema = z.strictObject({ tokens: z.array(tokenSchema).max(MAX_TOKENS) });

/** @throws RelayError naming the file, and the first place in it that is wrong. */
export function readTokens(path: string): Token[] {
  return tokensOf(readIfThere(path), path);
}

function tokensOf(text: string, path: string): Token[] {
  if (text.trim() === '') return [];
  const unreadable = (why: string): RelayError =>
    new RelayError('config_invalid', `${path} is no file of tokens: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // What a parser says quotes the text, and with it hashes.
    throw unreadable('it is not JSON');
  }
  const { success, data, error } = fileSchema.safeParse(value);
  if (success) return data.tokens;
  const [issue] = error.issues;
  throw unreadable(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
}

/** @throws RelayError as `readTokens`, or when another command is changing the file; Error of the file system. */
export function changeTokens(path: string, change: (tokens: Token[]) => Token[]): void {
  changeFile(path, (text) => `${JSON.stringify({ tokens: change(tokensOf(text, path)) }, null, 2)}\n`);
}

/** A token ready to be compared with. */
export interface KnownToken {
  token: Token;
  networks: NetworkSet | null;
  endsAtMs: number;
}

/** The tokens of the file as it is now. One that cannot be read leaves those that were known. */
export class TokenBook {
  readonly #path: string;
  #seen = '';
  #tokens = new Map<string, KnownToken>();

  constructor(path: string) {
    this.#path = path;
  }

  get size(): number {
    return this.#tokens.size;
  }

  find(id: string): KnownToken | undefined {
    return this.#tokens.get(id);
  }

  /**
   * Reads the file where it is another one than was read last.
   * @returns whether it is.
   * @throws RelayError as `readTokens`, once for each state of the file.
   */
  refresh(): boolean {
    const stats = statSync(this.#path, { throwIfNoEntry: false });
    const state =
      stats === undefined ? 'none' : [stats.ino, stats.size, stats.mtimeMs, stats.ctimeMs].join(' ');
    if (state === this.#seen) return false;
    this.#seen = state;
    const known = readTokens(this.#path).map(
      (token): KnownToken => ({
        token,
        networks: token.networks.length === 0 ? null : new NetworkSet(token.networks),
        endsAtMs: token.ends_at === null ? Number.POSITIVE_INFINITY : Date.parse(token.ends_at),
      }),
    );
    this.#tokens = new Map(known.map((one) => [one.token.id, one]));
    return true;
  }

  /** For a token that nobody knows. @returns whether it may be known now; what is wrong with the file the next `refresh` says. */
  reread(): boolean {
    try {
      return this.refresh();
    } catch {
      this.#seen = '';
      return false;
    }
  }
}
