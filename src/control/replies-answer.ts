/** A refusal that no rule knows in the words of docs/words.md, as `replies unknown --json` prints it. */
import type { UnknownReply } from '../mail/unknown-reply.ts';
import { textOrNull } from './words.ts';

export interface UnknownReplyAnswer {
  provider: string | null;
  code: number;
  enhanced: string | null;
  /** With {ip}, {email}, {host}, {id}, {time} and {n} for what differs from reply to reply. */
  text: string;
  replies: number;
  /** The last of them as the peer wrote it, without its codes. */
  example: string;
}

export const unknownReplyAnswer = (one: UnknownReply): UnknownReplyAnswer => ({
  provider: textOrNull(one.provider),
  code: one.code,
  enhanced: textOrNull(one.enhanced),
  text: one.text,
  replies: one.count,
  example: one.example,
});
