/** What the reactor found while reading content, as the reply that refuses the message, or null. Pure. */
import { constants } from 'node:os';
import type { BodyType } from '../mail/envelope.ts';
import { CONTENT_FLAG } from '../native.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import type { SessionSettings } from './settings.ts';

const NO_SPACE: readonly number[] = [constants.errno.ENOSPC, constants.errno.EDQUOT];

/**
 * @param flags of CONTENT_FLAG.
 * @param detail number of Received: fields, or errno with spillFailed.
 */
export function contentRefusal(
  settings: SessionSettings,
  body: BodyType,
  flags: number,
  detail: number,
): Reply | null {
  if (flags !== 0) {
    if ((flags & CONTENT_FLAG.tooBig) !== 0) return REPLY.too_big;
    if ((flags & CONTENT_FLAG.spillFailed) !== 0)
      return NO_SPACE.includes(detail) ? REPLY.spill_full : REPLY.spill_failed;
    if ((flags & CONTENT_FLAG.noMemory) !== 0) return REPLY.content_memory_full;
    // Octets of BINARYMIME have no lines (RFC 3030 §3).
    if (body !== 'BINARYMIME') {
      if ((flags & (CONTENT_FLAG.bareLf | CONTENT_FLAG.bareCr)) !== 0 && settings.refuseBareNewlines)
        return REPLY.bare_newline;
      if ((flags & CONTENT_FLAG.nul) !== 0 && settings.refuseNul) return REPLY.nul_content;
      if ((flags & CONTENT_FLAG.lineTooLong) !== 0) return REPLY.content_line_too_long;
    }
  }
  return detail > settings.maxHops ? REPLY.mail_loop : null;
}
