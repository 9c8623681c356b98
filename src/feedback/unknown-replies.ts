/**
 * Counts replies that no rule knows, by their normalised text, so that an operator sees which rule is missing. Bounded:
 * when it is full, what was seen least (and longest ago) makes room.
 */
import { keyOf, type UnknownReply } from '../mail/unknown-reply.ts';
import type { Refusal } from './classifier.ts';
import { normalised } from './reply-text.ts';

/** How many are looked at for the rarest, so that each of a flood of new texts costs little. */
const LOOKED_AT = 64;

export class UnknownReplies {
  #kept: number;
  readonly #replies = new Map<string, UnknownReply>();

  /** @param kept how many different ones, `replies.unknown_kept`; 0 counts nothing. */
  constructor(kept: number) {
    this.#kept = kept;
  }

  /** Sets how many are kept; those seen least go. */
  keep(kept: number): void {
    this.#kept = kept;
    while (this.#replies.size > kept) this.#makeRoom();
  }

  add({ code, enhanced, text }: Refusal, provider: string): void {
    if (this.#kept === 0) return;
    const plain = normalised(text);
    const key = keyOf({ provider, code, enhanced, text: plain });
    const seen = this.#replies.get(key);
    if (seen === undefined) {
      if (this.#replies.size >= this.#kept) this.#makeRoom();
      this.#replies.set(key, { provider, code, enhanced, text: plain, count: 1, example: text });
      return;
    }
    seen.count++;
    seen.example = text;
    // Seen last stands last.
    this.#replies.delete(key);
    this.#replies.set(key, seen);
  }

  /** Most frequent first. */
  list(): UnknownReply[] {
    return [...this.#replies.values()].sort((a, b) => b.count - a.count);
  }

  /** Of those seen longest ago the rarest goes: a flood of new texts must not drive out what is frequent. */
  #makeRoom(): void {
    let rarest: [string, UnknownReply] | null = null;
    let looked = 0;
    for (const entry of this.#replies) {
      if (rarest === null || entry[1].count < rarest[1].count) rarest = entry;
      if (++looked === LOOKED_AT || rarest[1].count === 1) break;
    }
    if (rarest !== null) this.#replies.delete(rarest[0]);
  }
}
